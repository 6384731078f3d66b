"""Where a model lies, by what it is called; nothing of it is loaded here, and no library of networks is needed to refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentrot.bundles import DEFAULT_BUNDLE, bundle_names, bundled_folder, missing_bundle
from latentrot.errors import LatentrotError

__all__ = ["find_folder", "local_folder", "read_json"]


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read one of a pipeline's configuration files."""
    try:
        return json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LatentrotError(
            f"{path.parent}: no readable {what} ({path.name}: {type(error).__name__}); expected a diffusers folder"
        ) from error


def local_folder(name: str) -> Path | None:
    """The folder of a model that is on this computer; None for a Hub id, which has to be fetched.

    Raises:
        LatentrotError: neither a folder, nor the name of a bundled model, nor a Hub id.
    """
    if bundled := bundled_folder(name):
        return bundled
    path = Path(name)
    if path.is_dir():
        return path
    if missing := missing_bundle(name):
        raise LatentrotError(missing)
    if path.exists() or name.count("/") != 1 or name.startswith((".", "/")):
        raise LatentrotError(
            f"no model at {name}; give a diffusers folder (with model_index.json), a Hub id such as "
            f"google/ddpm-celebahq-256, or one that comes with the package: {', '.join(bundle_names())}"
        )
    return None


def find_folder(name_or_path: str | Path | None) -> tuple[str, Path]:
    """The model's recorded name and its folder on disk, fetched from the Hub where it is not a folder."""
    name = DEFAULT_BUNDLE if name_or_path is None else str(name_or_path)
    if here := local_folder(name):
        return name, here
    from huggingface_hub import snapshot_download  # noqa: PLC0415  needed for Hub ids only

    try:
        return name, Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.bin"]))
    except Exception as error:  # the Hub client raises many kinds: offline, unknown id, gated
        raise LatentrotError(
            f"cannot fetch {name} from the Hub ({type(error).__name__}); check the id and the connection, "
            "or give the folder of a downloaded copy"
        ) from error
