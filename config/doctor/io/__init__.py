"""Collects the facts: reads `/proc`, looks at sockets and files, asks the running service. It changes nothing."""
