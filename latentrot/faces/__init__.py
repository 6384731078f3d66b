"""Face analysis: detection, alignment, landmarks, parsing, pose and light, attributes, identity."""
