"""Locate the parts of a diffusers model: published folders differ in layout, weights suffix and precision.

| layout | example |
|---|---|
| a folder per part | `unet/`, `scheduler/`, `vqvae/` beside model_index.json |
| a U-Net at the root | config.json, weights and scheduler_config.json, such as google/ddpm-celebahq-256 |
| the Hub's cache | `models--google--ddpm-celebahq-256/snapshots/COMMIT` |
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from latentrot.bundles import DEFAULT_BUNDLE, bundle_names, bundled_folder, missing_bundle
from latentrot.errors import LatentrotError, one_line

__all__ = ["find_folder", "load_part", "local_folder", "part_folder", "pipeline_index", "read_json", "weights_in"]

#: weights files of diffusers: variant, such as fp16, and suffix
WEIGHTS = re.compile(r"diffusion_pytorch_model(?:\.(?P<variant>[\w-]+?))?(?:-\d+-of-\d+)?\.(?P<suffix>safetensors|bin)")
#: first bytes of the placeholder for a large file in a clone without Git LFS
LFS_POINTER = b"version https://git-lfs"


def local_folder(name: str) -> Path | None:
    """The folder of a local model; None for a Hub id, which must be downloaded.

    Raises:
        LatentrotError: the name is neither a folder, nor a bundled model, nor a Hub id.
    """
    if bundled := bundled_folder(name):
        return bundled
    path = Path(name)
    if path.is_dir():
        return snapshot_in(path)
    if missing := missing_bundle(name):
        raise LatentrotError(missing)
    if path.exists() or name.count("/") != 1 or name.startswith((".", "/")):
        raise LatentrotError(
            f"no model at {name}; give a diffusers folder (with model_index.json), a Hub id such as "
            f"google/ddpm-celebahq-256, or a bundled model: {', '.join(bundle_names())}"
        )
    return None


def find_folder(name_or_path: str | Path | None) -> tuple[str, Path]:
    """Name for records and local folder of a model; a Hub id is downloaded."""
    name = DEFAULT_BUNDLE if name_or_path is None else str(name_or_path)
    if here := local_folder(name):
        return name, here
    from huggingface_hub import snapshot_download  # noqa: PLC0415  needed for Hub ids only

    try:
        return name, Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.bin"]))
    except Exception as error:  # the Hub client raises many types: offline, unknown id, gated
        raise LatentrotError(
            f"cannot fetch {name} from the Hub ({type(error).__name__}); check the id and the connection, "
            "or give the folder of a downloaded copy"
        ) from error


def snapshot_in(folder: Path) -> Path:
    """The main or only snapshot in a folder of the Hub's cache; any other folder is returned unchanged.

    Raises:
        LatentrotError: there are several snapshots without a main one, or several models.
    """
    if (folder / "snapshots").is_dir():
        main = folder / "refs" / "main"
        if main.is_file() and (named := folder / "snapshots" / main.read_text().strip()).is_dir():
            return named
        folder = folder / "snapshots"
    if folder.name == "snapshots":
        return only_one(folder, "*", "snapshots")
    models = sorted(p.name for p in folder.glob("models--*"))
    if models and not (folder / "model_index.json").is_file():
        return snapshot_in(only_one(folder, "models--*", "models"))
    return folder


def only_one(folder: Path, pattern: str, what: str) -> Path:
    """The only folder that matches a pattern."""
    found = sorted(p for p in folder.glob(pattern) if p.is_dir())
    if len(found) != 1:
        names = ", ".join(p.name for p in found[:4]) or "none"
        raise LatentrotError(f"{folder} is the Hub's cache with {len(found)} {what} ({names}); give one of them")
    return found[0]


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON configuration file of a pipeline; `what` names it in error messages."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # some editors leave a byte-order mark
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LatentrotError(
            f"{path.parent}: no readable {what} ({path.name}: {type(error).__name__}); expected a diffusers folder"
        ) from error
    if not isinstance(content, dict):
        raise LatentrotError(f"{path}: holds a {type(content).__name__}; expected an object, as diffusers writes it")
    return content


def pipeline_index(folder: Path) -> dict[str, Any]:
    """Read model_index.json, or construct it for a folder with a U-Net at its root."""
    if not (folder / "model_index.json").exists() and (folder / "config.json").is_file():
        kind = read_json(folder / "config.json", "U-Net").get("_class_name")
        if kind == "UNet2DModel":
            return {"_class_name": "DDPMPipeline", "unet": ["diffusers", kind]}
        raise LatentrotError(
            f"{folder} holds a {kind} alone; expected a whole diffusers pipeline (with model_index.json) or a UNet2DModel"
        )
    if not (folder / "model_index.json").exists() and (hint := training_hint(folder)):
        raise LatentrotError(f"{folder} holds a training state, not a pipeline; {hint}")
    return read_json(folder / "model_index.json", "pipeline")


def training_hint(folder: Path) -> str:
    """What to give instead of a training state of accelerate, for an error message; empty for other folders."""
    states = sorted(folder.glob("checkpoint-*"), key=lambda p: (len(p.name), p.name)) or [folder]
    found = [p for s in states[::-1] for p in (s / "unet_ema", s / "unet") if (p / "config.json").is_file()]
    if not found:
        return ""
    above = [p for p in (folder, folder.parent) if (p / "model_index.json").is_file()]
    whole = f"give {above[0]}, the finished pipeline, or " if above else ""
    return f"{whole}copy {found[0]} as unet/ beside the pipeline's model_index.json and scheduler/ into a new folder"


def part_folder(folder: Path, part: str, config: str) -> Path:
    """The folder with a part's configuration file: the subfolder of its name, or the root."""
    return folder if not (folder / part / config).exists() and (folder / config).exists() else folder / part


def weights_in(folder: Path) -> dict[str, Any]:
    """Options of diffusers that select a part's weights file: safetensors before .bin, plain files before variants.

    Raises:
        LatentrotError: there are no weights, or only a Git LFS pointer.
    """
    found = [(m["suffix"] == "bin", m["variant"] or "", p) for p in sorted(folder.glob("diffusion_pytorch_model*"))
             if (m := WEIGHTS.fullmatch(p.name))]  # fmt: skip
    if not found:
        raise LatentrotError(
            f"{folder} holds no weights (diffusion_pytorch_model.safetensors or .bin); download the complete model again"
        )
    # plain files first: a variant has another precision, or even other weights
    is_bin, variant, path = min(found, key=lambda f: (f[1] != "", f[1], f[0]))
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise LatentrotError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its repository")
    return {"use_safetensors": not is_bin, "variant": variant or None}


def load_part(kind: Any, folder: Path, **options: Any) -> Any:
    """Load one network of a pipeline; its weights must be complete.

    Raises:
        LatentrotError: the weights are missing or damaged, belong to another network, or loading them would execute code.
    """
    chosen = weights_in(folder)
    try:
        network, info = kind.from_pretrained(folder, output_loading_info=True, **chosen, **options)
    except Exception as error:  # pickle, safetensors, torch and diffusers raise different types
        reason = one_line(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__, 160)
        raise LatentrotError(f"{folder}: cannot load its weights: {reason}") from error
    missing, unexpected = info.get("missing_keys") or [], info.get("unexpected_keys") or []
    if missing or unexpected:
        raise LatentrotError(
            f"{folder}: the weights do not match config.json: {len(missing)} missing, {len(unexpected)} unexpected, such as "
            f"{one_line([*missing, *unexpected][0])}; download the complete model again"
        )
    return network
