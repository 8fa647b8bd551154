"""The experiments behind `docs/results/`."""
