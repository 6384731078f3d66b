"""Train the pair model, which generates a person in another pose from one image and the poses of both images.

A photograph and its mirror image are a pair of views whose relative pose is known without any 3-D data. Further pairs are
images of one scene, and images rotated away and back by geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from latentrot.diffusion.scheduler import add_noise
from latentrot.errors import LatentrotError
from latentrot.files import check_writable
from latentrot.rotators.pair.config import KINDS, PairConfig
from latentrot.rotators.pair.model import PairModel, initial_pair_model, save_pair_model
from latentrot.rotators.pair.pairs import open_pair_folder, plan_held_out, plan_sources
from latentrot.rotators.pair.render import RenderedPairs, read_rendered_pairs, render_pairs
from latentrot.rotators.pair.sample import draw_pairs
from latentrot.training.backbone import MODEL, save_samples, stratified_levels, target_of
from latentrot.training.checkpoints import config_of_run, images_of_run
from latentrot.training.loop import CHECKPOINT, generator_at, run_training

__all__ = ["PairTask", "pairs_at", "train_pair"]

#: number of held-out people on the contact sheets
SHEET_ROWS = 8


@dataclass(frozen=True, eq=False)
class PairTask:
    """Training task of a pair model, for `latentrot.training.loop.run_training`.

    Args:
        model: model at the start of the run.
        pairs: training pairs.
        strangers: pairs of held-out people, for contact sheets; None: no contact sheets.
        config: the run.
        data_sets: names of the data sets, for the model card.
    """

    model: PairModel
    pairs: RenderedPairs
    strangers: RenderedPairs | None
    config: PairConfig
    data_sets: tuple[str, ...] = ()

    def batch(self, step: int) -> tuple[torch.Tensor, ...]:
        """Targets, conditions, poses, noise and levels of a step."""
        generator = generator_at(step, self.config)
        target, condition, poses = pairs_at(step, self.pairs, self.config, generator)
        noise = torch.randn(len(target), *self.model.state_shape, generator=generator)
        levels = stratified_levels(len(target), len(self.model.alpha_bar), generator)
        return target, condition, poses, noise, levels

    def loss(self, model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Mean squared error of the prediction."""
        target, condition, poses, noise, levels = batch
        given = torch.isfinite(condition).flatten(1).all(1)
        x0 = self.model.space.encode(target)
        encoded = self.model.space.condition(torch.nan_to_num(condition))
        encoded = encoded * given.reshape(-1, *[1] * (encoded.ndim - 1))
        noisy = add_noise(self.model.scheduler, x0, noise, levels)
        predicted = model(noisy, levels, encoded, poses)
        return F.mse_loss(predicted.float(), target_of(self.model.scheduler, x0, noise, levels))

    def export(self, out: Path, average: torch.nn.Module, step: int) -> None:
        """Write the averaged weights to the folder out / MODEL, for `load_pair_model`."""
        save_pair_model(self.model, average.state_dict(), out / MODEL)
        (out / MODEL / "README.md").write_text(pair_card(self.config, self.data_sets))
        save_samples(out, step, self.samples(average))

    def samples(self, average: torch.nn.Module) -> Image.Image:
        """Contact sheet with one row per held-out person: source, condition, sample, truth."""
        shown = self.strangers or self.pairs
        rows = torch.linspace(0, len(shown) - 1, min(SHEET_ROWS, len(shown))).long()
        condition = condition_of(shown, rows, self.config)
        training = average.training
        average.eval()
        averaged = PairModel(**{**vars(self.model), "network": average})
        drawn = draw_pairs(averaged, condition, shown.poses[rows])
        average.train(training)
        images = [as_floats(shown.source[rows]), as_floats(condition[:, :3]), drawn, as_floats(shown.target[rows])]
        sheet = torch.cat([torch.cat(list(p), 1) for p in images], 2)  # (3, rows, columns)
        return Image.fromarray(((sheet.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy())


def pair_card(config: PairConfig, data_sets: tuple[str, ...]) -> str:
    """Write the model card; it states `trained_on` only if a tenth of the people was held out."""
    named = [f"trained_on: {', '.join(data_sets)}"] if data_sets and config.held_out >= 0.1 else []
    kept = (
        f"{config.held_out:.0%} of the people of {', '.join(data_sets) or 'unnamed folders'} were kept out of training"
    )
    made = f"Made with `latentrot train pair`: backbone {config.backbone} from {config.start}, condition {config.condition}"
    return "\n".join(["---", "library_name: diffusers", *named, "---", "# A pair model", "", f"{made}; {kept}.", ""])


def as_floats(x: torch.Tensor) -> torch.Tensor:
    """Convert uint8 to floats in [-1, 1]."""
    return x.float() / 127.5 - 1


def condition_of(pairs: RenderedPairs, rows: torch.Tensor, config: PairConfig) -> torch.Tensor:
    """(k, 4, s, s) uint8 conditions of the given pairs."""
    if config.condition == "mesh":
        return pairs.condition[rows]
    source = pairs.source[rows]
    return torch.cat([source, torch.full_like(source[:, :1], 255)], 1)


def pair_rows(step: int, kinds: np.ndarray, config: PairConfig) -> np.ndarray:
    """(batch_size,) indices of the pairs of a step: a kind is drawn by `shares`, then a pair of this kind."""
    rng = np.random.default_rng((config.seed, 1, step))
    places = [np.flatnonzero(kinds == k) for k in range(len(KINDS))]
    shares = np.array([share if len(place) else 0 for share, place in zip(config.shares, places, strict=True)], float)
    if not shares.sum():
        raise LatentrotError(
            f"no pairs to train on: the folders contain none of a kind whose share is positive (shares {config.shares} of "
            f"{', '.join(KINDS)})"
        )
    drawn = rng.choice(len(KINDS), config.batch_size, p=shares / shares.sum())
    return np.array([places[k][rng.integers(len(places[k]))] for k in drawn])


def pairs_at(
    step: int, pairs: RenderedPairs, config: PairConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The pairs of one step; some are mirrored, and some have their condition or poses dropped.

    Returns:
        Targets (b, 3, s, s) in [-1, 1]; conditions (b, 4, s, s) with the last channel 0 to 1, NaN for a dropped condition;
        poses (b, 2, 2), NaN for unknown ones.
    """
    rows = torch.from_numpy(pair_rows(step, pairs.kind.numpy(), config))
    target, stored, poses = as_floats(pairs.target[rows]), condition_of(pairs, rows, config).float(), pairs.poses[rows]
    condition = torch.cat([stored[:, :3] / 127.5 - 1, stored[:, 3:] / 255], 1)
    flip, no_condition, no_pose = (torch.rand(3, len(rows), generator=generator) < torch.tensor(
        [[0.5 * config.mirror], [config.drop_condition], [config.drop_pose]])).unbind()  # fmt: skip
    target, condition = (torch.where(flip[:, None, None, None], x.flip(-1), x) for x in (target, condition))
    poses = torch.where(flip[:, None, None], poses * torch.tensor([-1.0, 1.0]), poses)
    condition = condition.masked_fill(no_condition[:, None, None, None], torch.nan)
    return target, condition, poses.masked_fill(no_pose[:, None, None], torch.nan)


def train_pair(
    data: Sequence[Path],
    out: Path,
    config: PairConfig | None = None,
    *,
    save_every: int = 500,
    workers: int = 1,
    device: str | None = None,
) -> Path:
    """Train a pair model, or resume its training; pairs are rendered once and kept in the run's folder.

    Args:
        data: folders of face images with poses beside them (see `open_pair_folder`).
        out: run folder: pairs/, checkpoint.safetensors, log.csv, samples-*.png and model/.
        config: configuration of the run; None: that of its checkpoint, or the defaults for a new run.
        save_every: steps between checkpoints.
        workers: number of rendering processes.
        device: "cpu" forces the CPU; by default accelerate decides.

    Returns:
        Folder of the exported model.

    Raises:
        LatentrotError: `out` contains a checkpoint of another run, a folder has no poses, or no training pairs are left.
    """
    checkpoint = out / CHECKPOINT
    check_writable(checkpoint)
    config = config_of_run(checkpoint, config, PairConfig)
    folders = [open_pair_folder(Path(folder)) for folder in data]
    model = initial_pair_model(config, device)
    sources = plan_sources(folders, config.sources, config.held_out, config.seed)
    if not sources:
        raise LatentrotError(
            f"all people in {', '.join(map(str, data))} are held out (held_out {config.held_out}); "
            "give folders with more people"
        )
    strangers = plan_held_out(folders, SHEET_ROWS, config.held_out, config.seed)
    render = partial(
        render_pairs, out / "pairs", roots=folders, resolution=model.resolution, back_deg=config.back_deg,
        geometry=config.geometry,
    )  # fmt: skip
    plain = "" if config.geometry else "plain-"
    shards = render(sources=sources, workers=workers, name=f"{plain}pairs")
    held = render(sources=strangers, name=f"{plain}strangers") if strangers else []
    names = tuple(sorted({Path(folder).resolve().name.lower() for folder in data}))
    task = PairTask(model, read_rendered_pairs(shards), read_rendered_pairs(held) if held else None, config, names)
    pair_rows(0, task.pairs.kind.numpy(), config)
    images = images_of_run([Path(folder) for folder in data], task.pairs.source)
    run_training(task, model.network, config, out, save_every=save_every, device=device, metadata=images)
    return out / MODEL
