"""A photograph turned by geometry: its own pixels carried along on the surface of a head."""

from latentrot.rotate.mesh.calibration import turn_for
from latentrot.rotate.mesh.config import MeshConfig
from latentrot.rotate.mesh.head import Head, build_head
from latentrot.rotate.mesh.rotator import MeshRotator
from latentrot.rotate.mesh.turn import Turned, turn_head, turned_alignment

__all__ = ["Head", "MeshConfig", "MeshRotator", "Turned", "build_head", "turn_for", "turn_head", "turned_alignment"]
