"""Training: one loop with exact resumption, and the task of each network."""
