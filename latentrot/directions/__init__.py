"""Directions in latent space: fitted by regression, calibrated in measured units, walked and searched."""
