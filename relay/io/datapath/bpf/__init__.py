"""The kernel's share of the forwarding plane: an eBPF program, its loader and its typed interface."""
