"""Rotation by geometry: the photograph is warped with the surface of a fitted head."""
