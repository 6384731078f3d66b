"""Heads drawn from all around: a multi-view diffusion model told who it is and what some views show."""

from latentrot.rotate.spin.config import SpinConfig
from latentrot.rotate.spin.model import SpinModel, load_spin_model
from latentrot.rotate.spin.sample import SampleConfig, Views, draw_views, spin

__all__ = ["SampleConfig", "SpinConfig", "SpinModel", "Views", "draw_views", "load_spin_model", "spin"]
