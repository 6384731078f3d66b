"""A photograph, folder or video of the user from end to end: find faces, turn them, put them back, write."""
