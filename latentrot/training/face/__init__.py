"""Training of the two face networks: 68 landmarks, and face parsing."""
