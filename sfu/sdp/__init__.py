"""Session descriptions between the SFU and its clients (RFC 8866, RFC 8829 as far as it concerns a server)."""
