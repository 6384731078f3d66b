"""What the two networks that parse a face are taught: 68 landmarks, and face parts."""
