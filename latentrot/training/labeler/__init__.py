"""How the label network is trained."""
