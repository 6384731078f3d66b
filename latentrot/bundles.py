"""The models that come with the package, and what a model's folder may hold beside the model itself.

A model folder is a diffusers folder. Where it also holds `directions/` (the lines, a file per illumination class) and
`labeler.safetensors` (the label network the lines were calibrated with), whoever loads the model gets them with it; so one
folder is all there is to publish. Bundled models have the same layout.
"""

from __future__ import annotations

import os
from pathlib import Path

from latentrot.errors import LatentrotError

__all__ = [
    "DEFAULT_BUNDLE",
    "DETECTOR",
    "PORTRAIT",
    "RESEARCH_ONLY",
    "attributes_in",
    "bundle_names",
    "bundled_folder",
    "bundled_part",
    "card_of",
    "direction_files",
    "directions_in",
    "example_in",
    "labeler_in",
    "missing_bundle",
    "models_home",
    "properties_in",
    "terms_in_one_line",
    "trained_on",
]

#: the bundled model that is taken where none is named, and whose label network is taken where a model brings none
DEFAULT_BUNDLE = "faces64"
HOME = Path(__file__).parent / "bundled"
#: a public-domain photograph to try things on
PORTRAIT = HOME / "astronaut.jpg"
#: weights of the face detector
DETECTOR = HOME / "mtcnn" / "weights.safetensors"


#: folders in `bundled/` learned from photographs that are for non-commercial research only
RESEARCH_ONLY = ("face", "faces64", "pair64")


def models_home() -> Path:
    """Where models are put that do not come with the package: $LATENTROT_MODELS, or a folder of the user's own."""
    given = os.environ.get("LATENTROT_MODELS")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Path(given) if given else data / "latentrot" / "models"


def homes() -> list[Path]:
    """Where models of a name are looked for, in this order."""
    return [HOME, models_home()]


def bundle_names() -> list[str]:
    """Names of the models that come with the package, or were put where such models go."""
    return sorted({p.parent.name for home in homes() for p in home.glob("*/model_index.json")})


def bundled_folder(name: str) -> Path | None:
    """The folder of a bundled model, or None where no bundled model has this name."""
    there = (home / name for home in homes() if name in bundle_names())
    return next((folder for folder in there if (folder / "model_index.json").is_file()), None)


def bundled_part(name: str) -> Path:
    """A folder of networks that are no diffusion model, such as `face`, or where it would be if it is nowhere."""
    return next((home / name for home in homes() if (home / name).is_dir()), HOME / name)


def missing_bundle(name: str) -> str:
    """What to do about a network that this build does not bring; empty where it is none of ours, or is there."""
    if name not in RESEARCH_ONLY or bundled_part(name).is_dir():
        return ""
    return (
        f"{name} was learned from research-only photographs and is not in this build; put its folder "
        f"(latentrot/bundled/{name} of the full package) at {models_home() / name}, or name a model of your own"
    )


def card_of(folder: Path) -> dict[str, str]:
    """The front matter of a model's card (README.md): names and values, one a line; empty where there is none."""
    card = folder / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return {}
    pairs = (line.partition(":") for line in lines[1 : lines.index("---", 1)])
    return {name.strip(): value.strip() for name, _, value in pairs if value.strip()}


def trained_on(folder: Path) -> tuple[str, ...] | None:
    """The data sets a model's card says it learned from (`trained_on`), a tenth of whose people it never saw.

    Returns:
        Names of data sets, as their folders are called; None where no card says anything.
    """
    named = card_of(folder).get("trained_on")
    return None if named is None else tuple(name.strip().lower() for name in named.split(","))


def terms_in_one_line() -> str:
    """The terms of the code and of the networks that are here."""
    held = [name for name in RESEARCH_ONLY if (HOME / name).is_dir()]
    if not held:
        return "MIT; networks learned from research-only photographs are not in this build"
    named = DEFAULT_BUNDLE if DEFAULT_BUNDLE in held else held[-1]
    return f"code MIT; {', '.join(held)}: non-commercial research only (latentrot info {named})"


def labeler_in(folder: Path) -> Path | None:
    """The label network a model's folder brings, or None."""
    path = folder / "labeler.safetensors"
    return path if path.is_file() else None


def attributes_in(folder: Path) -> Path | None:
    """The attributes network a model's folder brings, or None."""
    path = folder / "attributes.safetensors"
    return path if path.is_file() else None


def directions_in(folder: Path) -> Path | None:
    """The folder of directions a model's folder brings, or None."""
    path = folder / "directions"
    return path if any(path.glob("*.safetensors")) else None


def properties_in(folder: Path) -> Path | None:
    """The folder of directions of properties a model's folder brings, or None."""
    path = folder / "properties"
    return path if any(path.glob("*.safetensors")) else None


def direction_files(path: Path) -> list[Path]:
    """The files of directions in a folder, or the one file given.

    Raises:
        LatentrotError: there are none.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if not files:
        raise LatentrotError(f"no directions in {path}; make them with: latentrot fit-directions --light left")
    return files


def bundled_example(name: str) -> Path:
    """The rendered example of a bundled model.

    Raises:
        LatentrotError: no bundled model of this name, or one without an example.
    """
    folder = bundled_folder(name)
    found = None if folder is None else example_in(folder)
    if found is None:
        raise LatentrotError(f"no example comes with {name}; those with the package: {', '.join(bundle_names())}")
    return found


def example_in(folder: Path) -> Path | None:
    """The rendered example (a folder of views of one head) a model's folder brings, or None."""
    path = folder / "example"
    return path if (path / "views.csv").is_file() else None
