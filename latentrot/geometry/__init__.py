"""A head from a photograph, with the photograph's own pixels: fitted to landmarks, rotated, rendered.

`HeadFitter.fit` sets a `Head` up, `Head.turn` renders it rotated by measured degrees.
"""

from latentrot.geometry.config import MeshConfig
from latentrot.geometry.fitter import HeadFitter
from latentrot.geometry.head import Head, build_head
from latentrot.geometry.turn import TurnedHead, turn_head

__all__ = ["Head", "HeadFitter", "MeshConfig", "TurnedHead", "build_head", "turn_head"]
