"""Head geometry: fit a surface to the landmarks of a photograph, texture it with the photograph, rotate and render it.

`HeadFitter.fit` builds a `Head`; `turn_head` renders it rotated by measured degrees.
"""

from latentrot.geometry.config import MeshConfig
from latentrot.geometry.fitter import HeadFitter
from latentrot.geometry.head import Head, build_head
from latentrot.geometry.turn import TurnedHead, turn_head

__all__ = ["Head", "HeadFitter", "MeshConfig", "TurnedHead", "build_head", "turn_head"]
