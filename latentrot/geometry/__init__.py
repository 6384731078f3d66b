"""A photographed head as a surface with its own pixels: fitted to landmarks, turned, drawn."""

from latentrot.geometry.calibration import turn_for
from latentrot.geometry.config import MeshConfig
from latentrot.geometry.head import Head, build_head
from latentrot.geometry.turn import Turned, turn_head, turned_alignment

__all__ = ["Head", "MeshConfig", "Turned", "build_head", "turn_for", "turn_head", "turned_alignment"]
