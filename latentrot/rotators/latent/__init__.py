"""Rotation by a walk through the latent space of a diffusion model."""
