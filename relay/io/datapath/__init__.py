"""Forwarding planes: implementations of relay.datapath.DataPath."""
