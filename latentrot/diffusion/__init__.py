"""Diffusion models: load one from disk, invert images into its latent space, decode latents."""
