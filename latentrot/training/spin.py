"""Train the multi-view model, which generates several views of a head together from none, one or three given views.

Rendered heads have exact views and normals from all sides. Pairs of photographs teach it photographs: a source, which is
given, and a target, with the normals of the fitted surface.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentrot.bundles import bundled_folder, bundled_part, trained_on
from latentrot.devices import resolve_device
from latentrot.errors import LatentrotError
from latentrot.faces.identity import IdentityEncoder, IdentityNetwork, load_identity
from latentrot.faces.person import PersonNetwork, load_person_network
from latentrot.files import check_writable
from latentrot.rotators.pair.pairs import open_pair_folder, plan_sources
from latentrot.rotators.spin.cameras import ray_map, reference_pose
from latentrot.rotators.spin.config import SpinConfig
from latentrot.rotators.spin.model import PERSON, SpinModel, initial_spin_model, multi_view_folder, save_spin_model
from latentrot.rotators.spin.network import GEOMETRY_CHANNELS
from latentrot.rotators.spin.render import (
    camera_of_crop,
    read_conditions,
    read_photographs,
    render_conditions,
    render_photographs,
)
from latentrot.rotators.spin.sample import NULL_IDENTITY, SpinSampleConfig, SpinViews, draw_views
from latentrot.synthetic.head_model import ICT_PATH
from latentrot.synthetic.views import HeadViews, read_head_views, render_views
from latentrot.training.backbone import MODEL, save_samples
from latentrot.training.checkpoints import config_of_run, images_of_run
from latentrot.training.loop import CHECKPOINT, generator_at, run_training

__all__ = ["Samples", "SpinTask", "ViewSets", "embed_people", "samples_at", "train_spin"]

#: added to the seed of the run for the rendered heads; other networks of the package use other seeds
SEED = 20
#: side in pixels of the heads rendered for the bundled models
SIZE = 64
#: number of held-out heads on the contact sheets
SHEET_ROWS = 3
#: max absolute yaw of a view that shows the face, degrees
FACING_DEG = 60.0
#: possible numbers of given views
GIVEN = (0, 1, 3)


@dataclass(frozen=True, eq=False)
class SpinTask:
    """Training task of a multi-view model, for `latentrot.training.loop.run_training`.

    Args:
        model: model at the start of the run.
        heads: training heads.
        strangers: heads for the contact sheets.
        config: the run.
        photographs: pairs of training photographs; None: rendered heads alone.
        data_sets: names of the folders of photographs, for the model card.
    """

    model: SpinModel
    heads: ViewSets
    strangers: HeadViews
    config: SpinConfig
    photographs: ViewSets | None = None
    data_sets: tuple[str, ...] = ()

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """The samples of a step as in `Samples`, noise and noise levels."""
        generator = generator_at(step, self.config)
        samples = samples_at(step, self.heads, self.photographs, self.config, generator)
        size = self.model.size
        noise = torch.randn(*samples.views.shape[:2], 6 * self.model.stage.factor**2, size, size, generator=generator)
        return *samples, noise, noise_levels(samples.given, self.config, generator)

    def loss(self, model: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """EDM's loss over the sampled views: the squared error, weighted by 1 / c_out²."""
        views, pose, given, blank, identity, condition, noise, level = batch
        x0 = self.model.encode(views)
        s = level[:, None] * (1 - given)
        x = x0 * (1 - blank[:, None] * given)[..., None, None, None] + s[..., None, None, None] * noise
        rays = ray_map(pose.cpu(), reference_pose(pose, given).cpu(), self.model.size).to(x.device)
        geometry = self.geometry(condition) if self.config.geometry else None
        denoised = model(x, s, given, rays, identity, geometry)
        weight = (1 - given) * (1 + level[:, None].square()) / level[:, None].square()
        error = (denoised.float() - x0).square().mean((2, 3, 4))
        return (weight * error).sum() / (1 - given).sum()

    def geometry(self, condition: Tensor) -> Tensor:
        """Condition of the network; zeros for samples whose condition is zeros, which have no geometry."""
        there = (condition != 0).flatten(1).any(1)[:, None, None, None, None]
        return self.model.encode_geometry(condition) * there

    def export(self, out: Path, average: torch.nn.Module, step: int) -> None:
        """Write the averaged weights to the folder out / MODEL, for `load_spin_model`."""
        save_spin_model(self.model, average.state_dict(), out / MODEL)
        (out / MODEL / "README.md").write_text(spin_card(self.model, self.config, self.data_sets))
        save_samples(out, step, self.samples(average))

    def samples(self, average: torch.nn.Module) -> Image.Image:
        """Contact sheet of held-out heads: true views, below them views sampled from the first one, then their normals."""
        training = average.training
        average.eval()
        model = SpinModel(**{**vars(self.model), "network": average})
        rows = [sheet_rows(model, self.strangers, i) for i in range(min(SHEET_ROWS, len(self.strangers)))]
        average.train(training)
        return Image.fromarray(np.concatenate(rows))


def spin_card(model: SpinModel, config: SpinConfig, data_sets: tuple[str, ...]) -> str:
    """Write the model card; `trained_on` names the data sets of real people, a tenth of whom were held out."""
    start = bundled_folder(config.start) or Path(config.start)
    geometry = trained_on(bundled_part("face")) if config.geometry else ()
    people = model.person.learned_from if model.person else ()
    sets = {"rendered", *(trained_on(start) or ()), *people, *(geometry or ()), *data_sets}
    made = f"Made with `latentrot train spin`: {config.people} rendered heads, from {start.name}."
    if data_sets:
        made += f" Pairs of {config.sources} photographs of {', '.join(data_sets)}: a share of {config.photographs:g}."
    if config.identity_digest:
        made += f" Identities: InceptionResnetV1 with weights (digest {config.identity_digest}) not included here."
    return "\n".join(
        [
            "---",
            "library_name: diffusers",
            f"trained_on: {', '.join(sorted(sets))}",
            "---",
            "# A multi-view model of heads",
            "",
            made,
            "",
        ]
    )


def sheet_rows(model: SpinModel, heads: HeadViews, row: int) -> np.ndarray:
    """(3 s, p s, 3) uint8: one head, seven views sampled from its most frontal one."""
    yaw = heads.pose[row, :, 0]
    first = int(yaw.abs().argmin())
    others = [int(i) for i in torch.linspace(0, len(yaw) - 1, 9).long() if i != first][:7]
    order = [first, *others]
    truth = torch.cat([heads.image[row, order], heads.normals[row, order]], 1).float() / 127.5 - 1
    given = SpinViews(truth[:1], heads.pose[row, [first]])
    embedded = embed_people(model.person, heads.image[[row]][:, [first]])[0, 0]
    camera = None
    if model.network.with_geometry:
        camera = camera_of_crop(heads.image[row, first].permute(1, 2, 0).numpy(), given.pose[0], model.resolution)
    config = SpinSampleConfig() if camera is not None else SpinSampleConfig(steps=6, guidance=2.0)
    drawn = draw_views(model, given, heads.pose[row, others], embedded, config, camera)
    shown = torch.cat([truth[:1], drawn.images])
    lines = [truth[:, :3], shown[:, :3], shown[:, 3:]]
    sheet = torch.cat([torch.cat(list(line), 2) for line in lines], 1)  # (3, rows, columns)
    return ((sheet.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


# --- batches -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ViewSets:
    """Views of n heads or people.

    Args:
        views: (n, v, 6, s, s) uint8, images and normals, 0 to 255 for -1 to 1.
        pose: (n, v, 2) float32, yaw and pitch in degrees.
        identity: (n, k, d) k identity embeddings of each, NaN for no identity.
        condition: (n, v, GEOMETRY_CHANNELS, s, s) uint8, the head fitted to one of the views; None: no geometry.
        source: (n,) index of that view, -1 if no head could be fitted.
    """

    views: Tensor
    pose: Tensor
    identity: Tensor
    condition: Tensor | None = None
    source: Tensor | None = None

    def __len__(self) -> int:
        return len(self.views)


class Samples(NamedTuple):
    """The samples of one step, the given views first.

    Args:
        views: (b, p, 6, s, s) float32 in [-1, 1].
        pose: (b, p, 2) degrees.
        given: (b, p) 1 for given views.
        blank: (b,) 1 if the given views are blank.
        identity: (b, d), NaN for no identity.
        condition: (b, p, GEOMETRY_CHANNELS, s, s) uint8, zeros for no geometry.
    """

    views: Tensor
    pose: Tensor
    given: Tensor
    blank: Tensor
    identity: Tensor
    condition: Tensor


def samples_at(
    step: int, heads: ViewSets, photographs: ViewSets | None, config: SpinConfig, generator: torch.Generator
) -> Samples:
    """The samples of one step, of heads or of photographs; some are mirrored, some lack one of their conditions."""
    rng = np.random.default_rng((config.seed, 2, step))
    if photographs is not None and rng.uniform() < config.photographs:
        sets, b, p = photographs, max(1, config.batch_size * config.together // 2), 2
    else:
        sets, b, p = heads, config.batch_size, config.together
    rows = rng.integers(len(sets), size=b)
    sources = np.full(b, -1) if sets.source is None else sets.source.numpy()[rows]
    sources = np.where(rng.uniform(size=b) < (config.drop_geometry if config.geometry else 1.0), -1, sources)
    columns = np.stack(
        [
            view_columns(sets.pose[r, :, 0].numpy(), p, config.frontal, rng, s)
            for r, s in zip(rows, sources, strict=True)
        ]
    )
    counts = np.ones(b, int) if p == 2 or step < config.single_steps else rng.choice(GIVEN, b)
    chosen = torch.from_numpy(rows)[:, None], torch.from_numpy(columns)
    views, pose = sets.views[chosen].float() / 127.5 - 1, sets.pose[chosen]
    fitted = torch.from_numpy(sources >= 0)
    condition = torch.zeros(b, p, GEOMETRY_CHANNELS, *views.shape[-2:], dtype=torch.uint8)
    if sets.condition is not None:
        condition[fitted] = sets.condition[chosen][fitted]
    given = torch.from_numpy(np.arange(p) < counts[:, None]).float()
    embedded = sets.identity[chosen[0][:, 0], torch.from_numpy(rng.integers(sets.identity.shape[1], size=b))]
    flip, blank, no_identity = (torch.rand(3, b, generator=generator) < torch.tensor(
        [[0.5 * config.mirror], [config.drop_images], [config.drop_identity]])).unbind()  # fmt: skip
    views[flip], condition[flip] = mirror_views(views[flip]), mirror_conditions(condition[flip])
    pose = torch.where(flip[:, None, None], pose * torch.tensor([-1.0, 1.0]), pose)
    identity = embedded.masked_fill(no_identity[:, None], torch.nan)
    return Samples(views, pose, given, blank.float(), identity, condition)


def view_columns(yaw: np.ndarray, count: int, frontal: float, rng: np.random.Generator, source: int = -1) -> np.ndarray:
    """Indices of the views of a head in a sample.

    The first one is that of the geometric condition, `source`; without one it shows the face with probability `frontal`.
    """
    order = rng.permutation(len(yaw))
    if source >= 0:
        return np.concatenate([[source], order[order != source]])[:count]
    facing = np.flatnonzero(np.abs(yaw[order]) <= FACING_DEG)
    if rng.uniform() < frontal and len(facing):
        order = np.concatenate([order[facing[:1]], np.delete(order, facing[0])])
    return order[:count]


def mirror_views(views: Tensor) -> Tensor:
    """Mirror views (..., 6, s, s), including the directions of their normals."""
    return views.flip(-1) * views.new_tensor([1, 1, 1, -1, 1, 1])[:, None, None]


def mirror_conditions(condition: Tensor) -> Tensor:
    """Mirror geometric conditions (..., GEOMETRY_CHANNELS, s, s) uint8, including the directions of their normals."""
    flipped = condition.flip(-1)
    there = (flipped != 0).flatten(-3).any(-1)[..., None, None]
    flipped[..., 3, :, :] = torch.where(there, 255 - flipped[..., 3, :, :], flipped[..., 3, :, :])
    return flipped


def noise_levels(given: Tensor, config: SpinConfig, generator: torch.Generator) -> Tensor:
    """(b,) standard deviations of the noise, log-normal; the log-SNR is lowered by log N for N sampled views.

    Views of one head are redundant, so more noise is needed to hide the same information.
    """
    drawn = (1 - given).sum(1)
    mean, deviation = config.log_noise
    logs = mean + deviation * torch.randn(len(given), generator=generator)
    return (logs + 0.5 * drawn.log()).exp()


def embed_people(person: IdentityEncoder | None, images: Tensor) -> Tensor:
    """Embed images (n, k, 3, s, s) uint8 -> (n, k, d); without a network `NULL_IDENTITY`."""
    n, k = images.shape[:2]
    if person is None:
        return NULL_IDENTITY.expand(n, k, -1)
    crops = list(images.flatten(0, 1).permute(0, 2, 3, 1).numpy())
    return torch.from_numpy(person.embed(crops)).unflatten(0, (n, k))


def train_spin(
    out: Path,
    config: SpinConfig | None = None,
    *,
    person: Path | None = None,
    identity: Path | None = None,
    heads: Path | None = None,
    data: Sequence[Path] = (),
    save_every: int = 500,
    workers: int = 1,
    device: str | None = None,
    ict: Path = ICT_PATH,
) -> Path:
    """Train a multi-view model, or resume its training; heads are rendered once.

    Args:
        out: run folder: heads/, conditions/, photographs/, person.safetensors, checkpoint.safetensors, log.csv,
            samples-*.png and model/.
        config: configuration of the run; None: that of its checkpoint, or the defaults for a new run.
        person: network written by `train person`, copied to the run folder; None: the one in the run folder, that of a
            multi-view start model, or no identities.
        identity: weights of a user's identity network to use instead; not copied, so a resumed run needs them again.
        heads: folder of the rendered heads; None: heads/ in the run folder.
        data: folders of photographs with poses beside them (see `open_pair_folder`).
        save_every: steps between checkpoints.
        workers: number of rendering processes.
        device: "cpu" forces the CPU; by default accelerate decides.
        ict: the face model.

    Returns:
        Folder of the exported model.

    Raises:
        LatentrotError: `out` contains a run with another configuration or identity network, or the face model is missing.
    """
    checkpoint = out / CHECKPOINT
    check_writable(checkpoint)
    config = config_of_run(checkpoint, None, SpinConfig) if config is None else config
    own = identity_of_run(config, person, identity, device)
    config = config_of_run(checkpoint, replace(config, identity_digest=own.digest if own else ""), SpinConfig)
    network = own or person_of_run(out, person, config.start)
    model = initial_spin_model(config, network, device)
    options = {"seed": SEED + config.seed, "views": config.views, "size": model.resolution, "plain": config.plain}
    folder = heads or out / "heads"
    shards = render_views(folder, range(config.people), **options, workers=workers, ict=ict)
    held_out = options | {"seed": SEED + 500_000}
    strangers = read_head_views(render_views(out / "strangers", range(SHEET_ROWS), **held_out, ict=ict))
    views = read_head_views(shards)
    task = SpinTask(
        model,
        head_sets(views, shards, out, network, config, workers),
        strangers,
        config,
        photograph_sets(data, out, network, config, model.resolution, workers) if data else None,
        tuple(sorted({Path(folder).resolve().name.lower() for folder in data})),
    )
    images = images_of_run([folder], views.image)
    run_training(task, model.network, config, out, save_every=save_every, device=device, metadata=images)
    return out / MODEL


def head_sets(
    views: HeadViews, shards: list[Path], out: Path, person: IdentityEncoder | None, config: SpinConfig, workers: int
) -> ViewSets:
    """The rendered heads of a run, with their geometric conditions if the model has them."""
    sets = ViewSets(torch.cat([views.image, views.normals], 2), views.pose, embed_people(person, views.occasion))
    if not config.geometry:
        return sets
    size = views.image.shape[-1]
    condition, source = read_conditions(render_conditions(out / "conditions", shards, size, config.seed, workers))
    return replace(sets, condition=condition, source=source)


def photograph_sets(
    data: Sequence[Path], out: Path, person: IdentityEncoder | None, config: SpinConfig, resolution: int, workers: int
) -> ViewSets:
    """The pairs of photographs of a run."""
    roots = [open_pair_folder(Path(folder)) for folder in data]
    sources = plan_sources(roots, config.sources, config.held_out, config.seed)
    if not sources:
        raise LatentrotError(
            f"all people in {', '.join(map(str, data))} are held out (held_out {config.held_out}); "
            "give folders with more people"
        )
    pairs = read_photographs(render_photographs(out / "photographs", sources, roots, resolution, workers))
    identity = embed_people(person, pairs.views[:, :1, :3])
    return ViewSets(pairs.views, pairs.pose, identity, pairs.condition, torch.zeros(len(pairs), dtype=torch.int64))


def identity_of_run(
    config: SpinConfig, person: Path | None, given: Path | None, device: str | None
) -> IdentityNetwork | None:
    """The user's identity network of a run, which replaces the package's; None without one."""
    if given is None:
        if config.identity_digest:
            raise LatentrotError(
                f"this run uses identity weights with digest {config.identity_digest}; pass --identity"
            )
        return None
    if person is not None:
        raise LatentrotError(f"--person {person} and --identity {given}: leave one of them out")
    return load_identity(given, str(resolve_device(device)))


def person_of_run(out: Path, given: Path | None, start: str) -> PersonNetwork | None:
    """The identity network of a run, copied beside its checkpoint; by default that of a multi-view start model."""
    kept, resumed = out / PERSON, (out / CHECKPOINT).is_file()
    of_start = multi_view_folder(start)
    if given is None and of_start and (of_start / PERSON).is_file() and not resumed:
        given = of_start / PERSON
    if given is not None and not kept.is_file():
        load_person_network(given)
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(given, kept)
    if given is not None and given.read_bytes() != kept.read_bytes():
        raise LatentrotError(f"{kept} differs from {given}; leave --person out, or choose another --out")
    return load_person_network(kept) if kept.is_file() else None
