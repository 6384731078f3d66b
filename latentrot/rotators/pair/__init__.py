"""A diffusion model trained on pairs of images of one person, conditioned on a rendering of the source by geometry."""
