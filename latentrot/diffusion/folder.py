"""Where the parts of a diffusers model lie: published folders differ in layout, in the weights' suffix and in precision.

| layout | example |
|---|---|
| a folder for each part | `unet/`, `scheduler/`, `vqvae/` beside model_index.json |
| one U-Net at the root | config.json, weights and scheduler_config.json, as google/ddpm-celebahq-256 has them |
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

#: a weights file of diffusers: its variant, such as fp16, and its suffix
WEIGHTS = re.compile(r"diffusion_pytorch_model(?:\.(?P<variant>[\w-]+?))?(?:-\d+-of-\d+)?\.(?P<suffix>safetensors|bin)")
#: what stands in place of a large file in a clone without Git LFS
LFS_POINTER = b"version https://git-lfs"


def local_folder(name: str) -> Path | None:
    """The folder of a model that is on this computer; None for a Hub id, which has to be fetched.

    Raises:
        LatentrotError: neither a folder, nor the name of a bundled model, nor a Hub id.
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


def snapshot_in(folder: Path) -> Path:
    """The model in a folder of the Hub's cache: its main snapshot, or the only one; any other folder as it is.

    Raises:
        LatentrotError: several snapshots of which none is the main one, or a cache of several models.
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
    """The only folder of a pattern."""
    found = sorted(p for p in folder.glob(pattern) if p.is_dir())
    if len(found) != 1:
        names = ", ".join(p.name for p in found[:4]) or "none"
        raise LatentrotError(f"{folder} is the Hub's cache with {len(found)} {what} ({names}); give one of them")
    return found[0]


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read one of a pipeline's configuration files."""
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
    """model_index.json; of a folder with a U-Net at its root, which needs none, what it would say."""
    if not (folder / "model_index.json").exists() and (folder / "config.json").is_file():
        kind = read_json(folder / "config.json", "U-Net").get("_class_name")
        if kind == "UNet2DModel":
            return {"_class_name": "DDPMPipeline", "unet": ["diffusers", kind]}
        raise LatentrotError(
            f"{folder} holds a {kind} alone; expected a whole diffusers pipeline (with model_index.json) or a UNet2DModel"
        )
    if not (folder / "model_index.json").exists() and (hint := training_hint(folder)):
        raise LatentrotError(f"{folder} holds a training's state, no pipeline; {hint}")
    return read_json(folder / "model_index.json", "pipeline")


def training_hint(folder: Path) -> str:
    """What to give instead of a folder that accelerate left; empty where it is none."""
    states = sorted(folder.glob("checkpoint-*"), key=lambda p: (len(p.name), p.name)) or [folder]
    found = [p for s in states[::-1] for p in (s / "unet_ema", s / "unet") if (p / "config.json").is_file()]
    if not found:
        return ""
    above = [p for p in (folder, folder.parent) if (p / "model_index.json").is_file()]
    whole = f"give {above[0]}, the finished pipeline, or " if above else ""
    return f"{whole}copy {found[0]} as unet/ beside the pipeline's model_index.json and scheduler/ into a new folder"


def part_folder(folder: Path, part: str, config: str) -> Path:
    """Where a part's configuration file lies: in a folder of its name, or at the root."""
    return folder if not (folder / part / config).exists() and (folder / config).exists() else folder / part


def weights_in(folder: Path) -> dict[str, Any]:
    """How diffusers is told which weights file of a part to take: safetensors before .bin, the plain ones before variants.

    Raises:
        LatentrotError: there is none, or only the pointer of a clone without Git LFS.
    """
    found = [(m["suffix"] == "bin", m["variant"] or "", p) for p in sorted(folder.glob("diffusion_pytorch_model*"))
             if (m := WEIGHTS.fullmatch(p.name))]  # fmt: skip
    if not found:
        raise LatentrotError(
            f"{folder} holds no weights (diffusion_pytorch_model.safetensors or .bin); download the model again, whole"
        )
    # the plain weights first, whatever their suffix: a variant is another precision, or other weights altogether
    is_bin, variant, path = min(found, key=lambda f: (f[1] != "", f[1], f[0]))
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise LatentrotError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its repository")
    return {"use_safetensors": not is_bin, "variant": variant or None}


def load_part(kind: Any, folder: Path, **options: Any) -> Any:
    """One network of a pipeline, every one of whose weights the folder holds.

    Raises:
        LatentrotError: no weights, damaged ones, weights of another network, or a file that would run code.
    """
    chosen = weights_in(folder)
    try:
        network, told = kind.from_pretrained(folder, output_loading_info=True, **chosen, **options)
    except Exception as error:  # pickle, safetensors, torch and diffusers each have their own
        reason = one_line(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__, 160)
        raise LatentrotError(f"{folder}: cannot load its weights: {reason}") from error
    missing, strange = told.get("missing_keys") or [], told.get("unexpected_keys") or []
    if missing or strange:
        raise LatentrotError(
            f"{folder}: its weights are not those of its config.json: {len(missing)} are missing and {len(strange)} are not "
            f"known, {one_line([*missing, *strange][0])} among them; download the model again, whole"
        )
    return network
