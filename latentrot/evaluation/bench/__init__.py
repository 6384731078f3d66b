"""Measures of speed and fidelity, beside what one would otherwise write."""
