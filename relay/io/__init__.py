"""The relay's shell: listeners, relay sockets, service and metrics."""
