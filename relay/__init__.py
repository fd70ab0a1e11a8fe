"""The TURN server's control plane (RFC 8656), without I/O. Sockets and the forwarding plane live in relay.io."""
