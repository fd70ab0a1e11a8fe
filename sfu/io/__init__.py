"""The SFU's shell: its UDP port, DTLS, SRTP, service and metrics."""
