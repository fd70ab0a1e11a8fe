"""The conference server: RTP is forwarded and never decoded. Without I/O; sockets, DTLS and SRTP live in sfu.io."""
