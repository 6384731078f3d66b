"""A multi-view diffusion model of heads, conditioned on an identity embedding and on given views."""
