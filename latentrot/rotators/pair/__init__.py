"""Rotation learned from pairs of images: a diffusion model conditioned on what geometry renders."""
