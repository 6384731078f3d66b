"""Heads drawn from all around: a multi-view diffusion model told who it is and what some views show."""

from latentrot.rotators.spin.config import SpinConfig
from latentrot.rotators.spin.model import SpinModel, load_spin_model
from latentrot.rotators.spin.sample import SampleConfig, Views, draw_views, spin

__all__ = ["SampleConfig", "SpinConfig", "SpinModel", "Views", "draw_views", "load_spin_model", "spin"]
