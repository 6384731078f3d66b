"""The models that come with the package, and what a model's folder may hold beside the model itself.

A model folder is a diffusers folder. Where it also holds `directions/` (the lines, a file per light group) and
`labeler.safetensors` (the label network the lines were calibrated with), whoever loads the model gets them with it; so one
folder is all there is to publish. Bundled models have the same layout.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["DEFAULT_BUNDLE", "PORTRAIT", "bundle_names", "bundled_folder", "directions_in", "example_in", "labeler_in"]

#: the bundled model that is taken where none is named, and whose label network is taken where a model brings none
DEFAULT_BUNDLE = "faces64"
HOME = Path(__file__).parent / "bundled"
#: a public-domain photograph to try things on
PORTRAIT = HOME / "astronaut.jpg"


def bundle_names() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(p.parent.name for p in HOME.glob("*/model_index.json"))


def bundled_folder(name: str) -> Path | None:
    """The folder of a bundled model, or None where no bundled model has this name."""
    return HOME / name if name in bundle_names() else None


def labeler_in(folder: Path) -> Path | None:
    """The label network a model's folder brings, or None."""
    path = folder / "labeler.safetensors"
    return path if path.is_file() else None


def directions_in(folder: Path) -> Path | None:
    """The folder of directions a model's folder brings, or None."""
    path = folder / "directions"
    return path if any(path.glob("*.safetensors")) else None


def example_in(folder: Path) -> Path | None:
    """The rendered example (a folder of views of one head) a model's folder brings, or None."""
    path = folder / "example"
    return path if (path / "views.csv").is_file() else None
