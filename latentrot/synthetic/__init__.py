"""Rendered heads: synthetic people with exact pose, light and identity labels.

Names are imported lazily, because editing a photograph needs only the face surface and not the renderer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "TEST_SEED": "sample",
    "HeadParameters": "sample",
    "HeadConfig": "sample",
    "HeadModel": "head_model",
    "Render": "shade",
    "load_head_model": "head_model",
    "mirror": "sample",
    "render": "shade",
    "sample_head": "sample",
    "with_pose": "sample",
}
__all__ = [*_HOMES]  # noqa: PLE0604  the names are strings

if TYPE_CHECKING:
    from latentrot.synthetic.head_model import HeadModel, load_head_model
    from latentrot.synthetic.sample import TEST_SEED, HeadConfig, HeadParameters, mirror, sample_head, with_pose
    from latentrot.synthetic.shade import Render, render


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"latentrot.synthetic.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'latentrot.synthetic' has no attribute {name!r}")
