"""Diffusion backbones: read one from disk, bring pictures into its own space, train one."""
