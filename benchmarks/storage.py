"""What half precision costs, what compression would save, and what the size of a shard decides.

Embeds some CelebA photographs with the bundled model (once: the latents are kept in a scratch file, never in the repository),
fits lines to the latents as computed and as stored in each way, and compares the lines. Writes a csv.

    python benchmarks/storage.py --data ../shared/data/celeba --cache /tmp/latents.npz --out benchmarks/storage.csv
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import tyro

from latentrot.data.arrays import to_tensor
from latentrot.data.celeba import FaceFolder
from latentrot.diffusion.fingerprint import Fingerprint
from latentrot.diffusion.load import load_model
from latentrot.diffusion.solve import Schedule, decode, invert
from latentrot.directions.lines import YawBins, YawDirections
from latentrot.store.shard import pack_shard, read_header, read_latent_rows
from latentrot.store.space import LatentSpace


@dataclass(frozen=True)
class Storage:
    """Compare ways to store latents."""

    data: Path = Path("../shared/data/celeba")
    """folder of CelebA photographs"""
    labels: Path = Path("data_labels")
    """folder of the pose and light tables"""
    cache: Path = Path("/tmp/latents.npz")
    """latents as computed: read if there, else made"""
    out: Path = Path("benchmarks/storage.csv")
    """table to write"""
    pictures: int = 1000
    """how many, chosen at random"""
    decoded: int = 16
    """how many are decoded, to compare the images"""


def computed(config: Storage) -> tuple[list[str], torch.Tensor]:
    """Names and (n, c, h, w) float32 latents."""
    if not config.cache.is_file():
        folder, model = FaceFolder(config.data), load_model(None, "cpu")
        chosen = np.random.default_rng(0).choice(len(folder.ids), config.pictures, replace=False)
        names = [folder.ids[i] for i in chosen]
        parts = [
            invert(model, to_tensor(list(folder.read_crops(names[i : i + 50], model.resolution))), residual=False)
            for i in range(0, len(names), 50)
        ]
        np.savez(config.cache, ids=np.array(names), z=torch.cat(parts).numpy())
    with np.load(config.cache) as file:
        return file["ids"].tolist(), torch.from_numpy(file["z"])


def as_bytes(z: torch.Tensor) -> torch.Tensor:
    """Each latent in steps of its largest value / 127."""
    step = z.flatten(1).abs().amax(1)[:, None, None, None] / 127
    return (z / step).round() * step


#: what storing does to a latent
WAYS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "float16": lambda z: z.half().float(),
    "bfloat16": lambda z: z.bfloat16().float(),
    "8 bits": as_bytes,
}


def lines(z: torch.Tensor, yaw: np.ndarray) -> list[np.ndarray]:
    """Slopes of the left and the right line; float32 latents in, not shrunk."""
    fitted = YawDirections(YawBins(10.0, 25.0), 2).fit(z.flatten(1).numpy(), yaw)
    return [fitted.left_.slope_, fitted.right_.slope_]


def effect_on_lines(z: torch.Tensor, labels: pd.DataFrame) -> list[dict[str, object]]:
    """Cosine and relative length of the lines, for each light and side."""
    rows = []
    for light in ("left", "center", "right", "any"):
        inside = np.ones(len(labels), bool) if light == "any" else (labels["light"] == light).to_numpy()
        if inside.sum() < 60:
            continue
        yaw = labels["yaw_deg"].to_numpy()[inside]
        some = z[torch.from_numpy(inside)]
        exact = lines(some, yaw)
        for way, store in WAYS.items():
            for side, a, b in zip(("left", "right"), exact, lines(store(some), yaw), strict=True):
                cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                rows += [
                    {"what": "line", "way": way, "case": f"{light} {side}, n={inside.sum()}", "measure": m, "value": v}
                    for m, v in (
                        ("1 - cosine", 1 - cosine), ("length - 1", np.linalg.norm(b) / np.linalg.norm(a) - 1),
                        ("error / length", np.linalg.norm(b - a) / np.linalg.norm(a)),
                    )
                ]  # fmt: skip
    return rows


def effect_on_pictures(z: torch.Tensor) -> list[dict[str, object]]:
    """PSNR in dB between images decoded from latents as computed and as stored."""
    model = load_model(None, "cpu")
    exact = decode(model, z)
    errors = {way: ((decode(model, store(z)) - exact) ** 2).mean((1, 2, 3)) for way, store in WAYS.items()}
    return [
        {"what": "picture", "way": way, "case": f"n={len(z)}", "measure": "worst PSNR, dB",
         "value": float(10 * torch.log10(4 / error.max()))}
        for way, error in errors.items()
    ]  # fmt: skip


def shuffled(z: torch.Tensor) -> bytes:
    """The half-precision numbers' high bytes, then their low bytes: what compresses best."""
    return z.half().numpy().view(np.uint8).reshape(-1, 2).T.tobytes()


def compression(z: torch.Tensor) -> list[dict[str, object]]:
    """Share of the size left, and MB/s of unpacking."""
    rows = []
    for layout, raw in (("as they lie", z.half().numpy().tobytes()), ("bytes sorted", shuffled(z))):
        for codec in ("lz4", "zstd", "brotli"):
            packed = pa.compress(raw, codec, asbytes=True)
            start = time.process_time()
            pa.decompress(packed, len(raw), codec)
            speed = len(raw) / 1e6 / max(time.process_time() - start, 1e-9)
            row = {"what": "compression", "way": codec, "case": f"{layout}, {len(raw) / 1e6:.0f} MB"}
            rows.append({**row, "measure": "size left", "value": len(packed) / len(raw)})
            rows.append({**row, "measure": "unpacking, MB per CPU second", "value": speed})
    return rows


def shard_sizes(z: torch.Tensor, names: list[str]) -> list[dict[str, object]]:
    """Header's share, CPU time of writing and reading, and what a kill loses, by latents per shard."""
    space = LatentSpace("none", Fingerprint("0" * 16), Schedule(), (z.shape[1], z.shape[2], z.shape[3]), 2)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in (32, 128, 512, 2048):
            some = z[torch.arange(size) % len(z)].half()
            path = Path(folder) / f"shard-{size:05d}.safetensors"
            begin = time.process_time()
            path.write_bytes(pack_shard([names[i % len(names)] for i in range(size)], some, space, []))
            middle = time.process_time()
            for _ in range(5):
                header = read_header(path)
                read_latent_rows(path, header)
            end = time.process_time()
            for measure, value in (
                ("MB", path.stat().st_size / 1e6), ("header's share", header.start / path.stat().st_size),
                ("packing and checksum, CPU ms per latent", 1e3 * (middle - begin) / size),
                ("reading, CPU ms per latent", 1e3 * (end - middle) / 5 / size),
                ("shards of ten million", np.ceil(1e7 / size)),
                ("minutes a kill loses at 0.3 s per picture, at most", size * 0.3 / 60),
            ):  # fmt: skip
                rows.append({"what": "shard", "way": "float16", "case": f"{size}", "measure": measure, "value": value})
    return rows


def main(config: Storage) -> None:
    """Embed where need be, compare, write."""
    names, z = computed(config)
    pose = pd.read_csv(config.labels / "celeba_pose.csv", index_col="image_id")
    light = pd.read_csv(config.labels / "celeba_light.csv", index_col="image_id")
    labels = pose.join(light["light"]).reindex(names)
    rows = effect_on_lines(z, labels) + effect_on_pictures(z[: config.decoded])
    rows += compression(z[:512]) + shard_sizes(z, names)
    table = pd.DataFrame(rows)
    print(table.to_string())
    table.to_csv(config.out, index=False, float_format="%.4g")


if __name__ == "__main__":
    main(tyro.cli(Storage))
