"""Describe a file or folder by its header, without reading its tensors."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from latentrot.bundles import HOME, bundled_folder, card_of, missing_bundle
from latentrot.data.images import QUIET_PILLOW
from latentrot.data.metadata import read_metadata
from latentrot.errors import LatentrotError

__all__ = ["describe_file"]


def describe_file(path: Path) -> dict[str, str]:
    """Describe a file or folder.

    Args:
        path: the name of a bundled model, or a path: directions, a shard or a store of latents, a label network, a training
            checkpoint, a label table, a diffusers model folder, or an image or animation written by latentrot.

    Returns:
        Names and values, in the order to print them.

    Raises:
        LatentrotError: the path does not exist, or is of a kind that latentrot does not write.
    """
    if not path.exists():
        path = HOME / path if len(path.parts) == 1 and (HOME / path / "README.md").is_file() else path
        path = bundled_folder(str(path)) or path
    if not path.exists():
        raise LatentrotError(missing_bundle(str(path)) or f"no file {path}")
    if path.is_dir():
        return describe_folder(path)
    if path.suffix == ".safetensors":
        return describe_tensors(path)
    if path.suffix in (".parquet", ".csv"):
        from latentrot.faces.table import read_labels  # noqa: PLC0415  pandas takes a while

        table = read_labels(path)
        lights = {str(k): int(v) for k, v in table["light"].value_counts().items()}
        made_by = {str(k): str(v) for k, v in table.attrs.items()}
        return {"kind": "latentrot labels", "pictures": str(len(table)), "light": json.dumps(lights), **made_by}
    return describe_image(path)


def describe_folder(path: Path) -> dict[str, str]:
    """Describe a model folder or a store of latents."""
    if (path / "model_index.json").is_file():
        from latentrot.diffusion.load import load_model  # noqa: PLC0415  torch takes seconds

        model = load_model(path, device="cpu")
        return {
            "kind": "diffusers model",
            "digest": model.digest,
            "prediction": model.prediction_type,
            "noise": model.noise,
            "first_stage": model.first_stage.title,
            "resolution": str(model.resolution),
            "latent_shape": json.dumps(model.latent_shape),
            "parameters": str(sum(p.numel() for p in model.unet.parameters())),
            "directions": ", ".join(p.stem for p in sorted((path / "directions").glob("*.safetensors"))) or "none",
            "labeler": model.labeler.title,
            **terms_of(path),
        }
    if any(path.glob("shard-*.safetensors")) or any(path.glob("manifest-*.parquet")):
        from latentrot.store.latent_store import LatentStore  # noqa: PLC0415

        store = LatentStore(path)
        about = {"kind": "latentrot store of latents", "latents": str(store.count())}
        return {**about, "shards": str(len(store.shards)), **store.space.header()}
    if terms := terms_of(path):
        return {"kind": "bundled networks", "files": ", ".join(sorted(p.name for p in path.iterdir())), **terms}
    raise LatentrotError(f"{path}: neither a diffusers model folder (model_index.json) nor a store of latents")


def terms_of(folder: Path) -> dict[str, str]:
    """Licence and terms from a model card; empty if there is no card."""
    card = card_of(folder)
    named = {"licence": card.get("license_name") or card.get("license", ""), "terms": card.get("license_terms", "")}
    return {name: value for name, value in named.items() if value}


def describe_tensors(path: Path) -> dict[str, str]:
    """Header entries of a safetensors file of latentrot, long values shortened, and its tensors."""
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            names = list(file.keys())
            shapes = {n: file.get_slice(n).get_shape() for n in names[:4]}
    except (OSError, SafetensorError) as error:
        raise LatentrotError(f"cannot read {path}: {error}") from error
    if not header.get("kind", "").startswith("latentrot"):
        raise LatentrotError(f"{path}: a safetensors file that was not written by latentrot")
    ordered = {"kind": header["kind"], **{k: v for k, v in sorted(header.items()) if k != "kind"}}
    shown = {k: v if len(v) <= 200 else f"{v[:180]}... ({len(v)} characters)" for k, v in ordered.items()}
    return {**shown, "tensors": f"{len(names)}: " + ", ".join(f"{n} {s}" for n, s in shapes.items())}


def describe_image(path: Path) -> dict[str, str]:
    """Metadata of an image or animation that latentrot wrote."""
    with QUIET_PILLOW:
        metadata = read_metadata(path)
    if "latentrot" not in " ".join([*metadata, *metadata.values()]):
        raise LatentrotError(f"{path}: no metadata of latentrot; expected an image or animation that latentrot wrote")
    return {"kind": "animation" if path.suffix.lower() == ".mp4" or "frames" in metadata else "image", **metadata}
