"""STUN (RFC 8489) without I/O: registry, messages, attributes, integrity, credentials, nonces. Standard library only."""
