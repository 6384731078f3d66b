"""Calibration of the front and back surface: the angle to rotate by so that the measured yaw changes by the requested angle.

A surface fitted to landmarks is flatter than a real head, so a rotated head measures less yaw than it was rotated by. The
whole head is rotated by the requested angle: an independent yaw network measures it within a degree up to 35.
"""

from __future__ import annotations

import numpy as np

__all__ = ["surface_yaw"]

#: yaw change measured by the label network, and rotation of the mesh that causes it, degrees: fourteen LFW photographs of
#: people that no part of the geometry was fitted to; beyond the last value the offset stays constant (not measured there)
SEEN = (0.0, 15.0, 25.0, 35.0)
TURNED = (0.0, 17.6, 28.2, 38.7)


def surface_yaw(yaw: float) -> float:
    """Mesh rotation in degrees for a requested yaw change in degrees; odd in `yaw`."""
    size = abs(yaw)
    beyond = max(0.0, size - SEEN[-1])
    return float(np.sign(yaw) * (np.interp(size, SEEN, TURNED) + beyond))
