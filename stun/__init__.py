"""STUN (RFC 8489) without I/O: messages, attributes, integrity, credentials, nonces. Standard library only."""
