"""How far the geometry has to turn so that a head is seen to have turned by the degrees asked for.

A surface fitted to landmarks is flatter than a head, and what it cannot show makes a turned head look less turned than it is.
"""

from __future__ import annotations

import numpy as np

__all__ = ["surface_yaw"]

#: turns as the label network reads them, and the geometry's, degrees: on fourteen photographs of LFW, of people that no part
#: of the geometry was fitted to; beyond, nothing was measured that could be trusted, and the rest of the way is kept
SEEN = (0.0, 15.0, 25.0, 35.0)
TURNED = (0.0, 17.6, 28.2, 38.7)


def surface_yaw(yaw: float) -> float:
    """The geometry's turn for a turn asked for, degrees; mirrored turns are mirrored."""
    size = abs(yaw)
    beyond = max(0.0, size - SEEN[-1])
    return float(np.sign(yaw) * (np.interp(size, SEEN, TURNED) + beyond))
