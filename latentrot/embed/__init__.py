"""Picture to latent and back: the schedule, its solvers, and other embedders."""
