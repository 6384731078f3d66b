"""A rotator of your own: the head as a cylinder that carries the image."""

import numpy as np

RADIUS = 0.8  # of half the crop's width


class CylinderRotator:
    """Looks each column up where the cylinder's surface was before the turn."""

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """A (s, s, 3) uint8 crop in CelebA's frame, by degrees (> 0: nose to the viewer's right) -> the same."""
        side = len(image)
        x = (np.arange(side) + 0.5) / side * 2 - 1  # columns from -1 to 1
        on_head = np.abs(x) < RADIUS
        angle = np.arcsin(np.clip(x / RADIUS, -1, 1)) - np.radians(degrees)
        before = RADIUS * np.sin(np.clip(angle, -np.pi / 2, np.pi / 2))
        column = np.where(on_head, (before + 1) / 2 * side - 0.5, np.arange(side))
        return image[:, np.clip(np.rint(column), 0, side - 1).astype(int)]
