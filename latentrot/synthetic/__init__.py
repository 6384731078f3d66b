"""Rendered heads: synthetic people with exact pose, light and identity labels."""
