"""Turning learned from pairs: a diffusion model that is told what to draw, and from where it is seen."""

from latentrot.rotate.pair.config import PairConfig
from latentrot.rotate.pair.model import PairModel, load_pair_model
from latentrot.rotate.pair.rotator import PairRotator, load_pair_rotator
from latentrot.rotate.pair.sample import SampleConfig

__all__ = ["PairConfig", "PairModel", "PairRotator", "SampleConfig", "load_pair_model", "load_pair_rotator"]
