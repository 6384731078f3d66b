"""Pictures and tables in: CelebA's layout, image files, video frames, and the frame that faces are aligned to."""
