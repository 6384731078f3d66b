"""Training of the label network."""
