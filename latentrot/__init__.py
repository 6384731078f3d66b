"""latentrot."""
