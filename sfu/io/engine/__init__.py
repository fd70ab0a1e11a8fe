"""Forwarding engines: what moves the packets, told by the core who gets which."""
