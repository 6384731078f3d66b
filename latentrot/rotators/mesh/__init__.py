"""Rotation by geometry: the pixels of the photograph on the surface of a head."""
