"""Bundled models, and optional parts of a model's folder.

A model folder is a diffusers folder. It may contain `directions/` (a file per illumination class), the `labeler.safetensors`
they were calibrated with, and other parts, which are loaded with the model. Bundled models have the same layout.
"""

from __future__ import annotations

import os
from pathlib import Path

from latentrot.errors import LatentrotError

__all__ = [
    "ATTRIBUTES_FILE",
    "DEFAULT_BUNDLE",
    "DETECTOR",
    "DIRECTIONS",
    "LABELER_FILE",
    "PORTRAIT",
    "PROPERTIES",
    "RESEARCH_ONLY",
    "bundle_names",
    "bundled_folder",
    "bundled_part",
    "card_of",
    "direction_files",
    "example_in",
    "missing_bundle",
    "models_home",
    "part_in",
    "terms_in_one_line",
    "trained_on",
]

#: the default model, whose label network is also the default one
DEFAULT_BUNDLE = "faces64"
HOME = Path(__file__).parent / "bundled"
#: a public-domain photograph for examples
PORTRAIT = HOME / "astronaut.jpg"
#: weights of the face detector
DETECTOR = HOME / "mtcnn" / "weights.safetensors"


#: optional parts of a model's folder: label network, attributes network, directions of yaw, directions of properties
LABELER_FILE, ATTRIBUTES_FILE, DIRECTIONS, PROPERTIES = (
    "labeler.safetensors",
    "attributes.safetensors",
    "directions",
    "properties",
)
#: folders in `bundled/` trained on photographs for non-commercial research only
RESEARCH_ONLY = ("face", "faces64", "pair64", "spin64-geometry")


def models_home() -> Path:
    """Folder of the user's models: $LATENTROT_MODELS, or a folder in the user's data directory."""
    given = os.environ.get("LATENTROT_MODELS")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Path(given) if given else data / "latentrot" / "models"


def homes() -> list[Path]:
    """Folders that are searched for models by name, in this order."""
    return [HOME, models_home()]


def bundle_names() -> list[str]:
    """Names of all models in `homes`."""
    return sorted({p.parent.name for home in homes() for p in home.glob("*/model_index.json")})


def bundled_folder(name: str) -> Path | None:
    """The folder of a bundled model, or None if no bundled model has this name."""
    there = (home / name for home in homes() if name in bundle_names())
    return next((folder for folder in there if (folder / "model_index.json").is_file()), None)


def bundled_part(name: str) -> Path:
    """The bundled folder of a kind of network, such as `face`; the path is returned even if the folder does not exist."""
    return next((home / name for home in homes() if (home / name).is_dir()), HOME / name)


def missing_bundle(name: str) -> str:
    """Error message for a research-only network that is not in this build; empty for other names."""
    if name not in RESEARCH_ONLY or bundled_part(name).is_dir():
        return ""
    return (
        f"{name} was trained on research-only photographs and is not in this build; copy its folder "
        f"(latentrot/bundled/{name} of the full package) to {models_home() / name}, or name another model"
    )


def card_of(folder: Path) -> dict[str, str]:
    """The front matter of a model card (README.md) as names and values; empty if there is no card."""
    card = folder / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return {}
    pairs = (line.partition(":") for line in lines[1 : lines.index("---", 1)])
    return {name.strip(): value.strip() for name, _, value in pairs if value.strip()}


def trained_on(folder: Path) -> tuple[str, ...] | None:
    """The training data sets that a model card lists (`trained_on`); a tenth of their people was held out.

    Returns:
        Names of the data sets, equal to the names of their folders; None if the card lists none.
    """
    named = card_of(folder).get("trained_on")
    return None if named is None else tuple(name.strip().lower() for name in named.split(","))


def terms_in_one_line() -> str:
    """The licence terms of the code and of the networks in this build, in one line."""
    held = [name for name in RESEARCH_ONLY if (HOME / name).is_dir()]
    if not held:
        return "MIT; networks trained on research-only photographs are not in this build"
    named = DEFAULT_BUNDLE if DEFAULT_BUNDLE in held else held[-1]
    return f"code MIT; {', '.join(held)}: non-commercial research only (latentrot info {named})"


def part_in(folder: Path, name: str) -> Path | None:
    """A part of a model's folder, a file such as `LABELER_FILE` or a folder such as `DIRECTIONS`; None if missing."""
    path = folder / name
    return path if path.is_file() or any(path.glob("*.safetensors")) else None


def direction_files(path: Path) -> list[Path]:
    """The directions files in a folder, or the given file itself.

    Raises:
        LatentrotError: the folder contains no directions.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if not files:
        raise LatentrotError(f"no directions in {path}; make them with: latentrot fit-directions --light left")
    return files


def bundled_example(name: str) -> Path:
    """The folder of the rendered example of a bundled model.

    Raises:
        LatentrotError: no bundled model has this name, or the model has no example.
    """
    folder = bundled_folder(name)
    found = None if folder is None else example_in(folder)
    if found is None:
        raise LatentrotError(f"the model {name} has no example; bundled models: {', '.join(bundle_names())}")
    return found


def example_in(folder: Path) -> Path | None:
    """The rendered example (views of one head) in a model's folder, or None."""
    path = folder / "example"
    return path if (path / "views.csv").is_file() else None
