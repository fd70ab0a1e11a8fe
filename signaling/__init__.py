"""The two-party consultation's rooms and protocol, without I/O. The web application lives in signaling.io."""
