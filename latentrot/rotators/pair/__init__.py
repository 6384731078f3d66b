"""Turning learned from pairs: a diffusion model that is told what to draw, and from where it is seen."""

from latentrot.rotators.pair.config import PairConfig
from latentrot.rotators.pair.model import PairModel, load_pair_model
from latentrot.rotators.pair.rotator import PairRotator, load_pair_rotator
from latentrot.rotators.pair.sample import SampleConfig

__all__ = ["PairConfig", "PairModel", "PairRotator", "SampleConfig", "load_pair_model", "load_pair_rotator"]
