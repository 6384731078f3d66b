"""Benchmarks of speed and round-trip accuracy, compared with a plain diffusers loop."""
