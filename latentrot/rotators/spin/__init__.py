"""Heads drawn from all around: a multi-view diffusion model conditioned on identity and given views."""
