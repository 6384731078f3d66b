"""Read and write images, videos and tables: CelebA's layout, image files, video frames, and the aligned face frame."""
