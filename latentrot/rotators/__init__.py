"""Rotators of faces, which share one protocol; one folder per rotator."""
