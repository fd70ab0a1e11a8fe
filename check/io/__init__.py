"""Name lookup, sockets, TLS, HTTP and the terminal of `redconnect check`."""
