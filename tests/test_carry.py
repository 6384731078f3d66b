"""Carrying an image's own pixels: what must hold of it whatever the face."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import latentrot.directions.warp as carrying
from latentrot.data.arrays import to_tensor
from latentrot.directions.warp import (
    landmarks_of_crops,
    source_positions,
    source_shift,
    source_visibility,
    thin_plate,
    warp_between,
    warp_to_walk,
)
from latentrot.errors import LatentrotError
from latentrot.evaluation.bench.compare import portrait_crop
from latentrot.rotators.latent.rotator import load_latent_rotator

SIDE = 64
#: how far the planted walk moves the face, pixels (columns, rows)
MOVED = (4, -3)


@pytest.fixture(scope="module")
def face() -> torch.Tensor:
    return to_tensor(portrait_crop(SIDE))


def landmarks(picture: torch.Tensor) -> np.ndarray:
    (found,) = landmarks_of_crops(picture)
    assert found is not None
    return found


def moved(picture: torch.Tensor) -> torch.Tensor:
    return picture.roll((MOVED[1], MOVED[0]), (2, 3))


def marked(picture: torch.Tensor) -> torch.Tensor:
    """A green spot on the nose."""
    out = picture.clone()
    column, row = ((landmarks(picture)[30] + 1) * SIDE / 2).round().astype(int)
    out[:, :, row - 2 : row + 2, column - 2 : column + 2] = torch.tensor([-1.0, 1.0, -1.0])[:, None, None]
    return out


def place_of_mark(picture: torch.Tensor) -> np.ndarray:
    green = (picture[0, 1] - picture[0, 0]).clamp(min=0.8) - 0.8
    ticks = torch.arange(SIDE) + 0.5
    return np.array([(green.sum(0) * ticks).sum() / green.sum(), (green.sum(1) * ticks).sum() / green.sum()])


def test_without_motion_the_source_is_unchanged(face):
    blurred = torch.nn.functional.avg_pool2d(face, 3, 1, 1)
    assert torch.allclose(warp_to_walk(face, blurred, blurred), face, atol=1e-4)


def test_the_source_follows_the_motion_of_the_walk(face):
    source = marked(face)
    shown = warp_to_walk(source, face, moved(face))
    assert np.abs(place_of_mark(shown) - place_of_mark(source) - MOVED).max() < 0.7


def test_a_mirrored_walk_warps_the_mirrored_source(face):
    source, walked = marked(face), moved(face)
    shown = warp_to_walk(source, face, walked)
    mirrored = warp_to_walk(source.flip(-1), face.flip(-1), walked.flip(-1)).flip(-1)
    assert (shown - mirrored).abs().max() < 1e-3  # the landmark network rounds by what the processor has


def test_mirrored_landmarks_warp_the_mirrored_source_exactly(face):
    """Without the landmark network, whose own rounding is all that the two differ by above."""
    before, after = landmarks(face), landmarks(face) * [0.6, 1.0] + [0.1, 0.0]
    shown = warp_between(face, before, moved(face), after)
    mirrored = warp_between(face.flip(-1), before * [-1, 1], moved(face).flip(-1), after * [-1, 1]).flip(-1)
    assert (shown - mirrored).abs().max() < 1e-5


def test_images_of_a_batch_are_warped_independently(face):
    walks = torch.cat([moved(face), face, moved(face).flip(-1)])
    together = warp_to_walk(face, face, walks)
    alone = torch.cat([warp_to_walk(face, face, w[None]) for w in walks])
    assert (together - alone).abs().max() < 1e-3
    assert warp_to_walk(face, face, walks[:0]).shape == (0, 3, SIDE, SIDE)


def test_without_a_face_the_walk_is_shown(face):
    noise = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert landmarks_of_crops(noise) == [None]
    assert torch.equal(warp_to_walk(noise, noise, face), face)
    assert torch.equal(warp_to_walk(face, face, noise), noise)


def test_implausible_landmarks_are_rejected(face, monkeypatch):
    """One such image in a batch leaves the others theirs."""
    grey = torch.zeros_like(face)
    real = carrying.estimate_landmarks_of

    def fails_on_grey(pictures, alignments, device):
        if any((p == p[0, 0]).all() for p in pictures):
            raise LatentrotError("the landmarks lie on one spot")
        return real(pictures, alignments, device=device)

    monkeypatch.setattr(carrying, "estimate_landmarks_of", fails_on_grey)
    shown = warp_to_walk(face, face, torch.cat([moved(face), grey]))
    assert torch.equal(shown[1:], grey)
    assert not torch.equal(shown[:1], moved(face))


def test_uncovered_parts_are_filled_from_the_walk(face):
    """Positions beyond its border, and what it shows at a slant."""
    across = torch.linspace(-1, 1, SIDE + 1, dtype=torch.float64)
    middle = (across[1:] + across[:-1]) / 2
    own = torch.stack(torch.meshgrid(middle, middle, indexing="xy"), -1)
    assert torch.equal(source_visibility(own), torch.ones(SIDE, SIDE).double())
    assert source_visibility(own * torch.tensor([0.15, 1.0])).max() == 0  # a pixel of the source over seven
    assert (
        source_visibility(own * torch.tensor([7.0, 1.0]))[:, SIDE // 2].max() == 0
    )  # seven of them in one: behind the face
    beyond = source_visibility(own + torch.tensor([0.5, 0.0]))
    assert beyond[:, : SIDE // 2].min() == 1
    assert beyond[:, -SIDE // 5 :].max() == 0


def test_compressed_pixels_are_averaged(face):
    """A pattern of single pixels, pressed to half its width, is grey, and not one of its colours."""
    before = landmarks(face)
    columns = torch.arange(SIDE) % 2 * 2.0 - 1
    stripes = columns.expand(1, 3, SIDE, SIDE).clone()
    after = before * [0.45, 1.0]
    shown = warp_between(stripes, before, stripes, after)
    near = shown[0, :, SIDE // 2 - 6 : SIDE // 2 + 6, SIDE // 2 - 4 : SIDE // 2 + 4]
    assert near.abs().max() < 0.25
    assert torch.equal(warp_between(stripes, before, stripes, before), stripes)


def test_far_from_the_face_nothing_moves(face):
    before = landmarks(face) * 0.3
    after = before + np.array([0.05, 0.0])
    there = source_positions(source_shift(before, after, SIDE), SIDE)
    ticks = (torch.arange(SIDE, dtype=torch.float64) + 0.5) * 2 / SIDE - 1
    own = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1)
    assert torch.equal(there[:2], own[:2])
    middle = (own - torch.from_numpy(after.mean(0))).norm(dim=-1) < 0.1
    assert torch.allclose((own - there)[middle], torch.tensor([0.05, 0.0]).double(), atol=0.01)


def test_larger_images_are_warped_alike(face):
    before = landmarks(face)
    shift = source_shift(before, before * 0.9, SIDE)
    small, large = (source_positions(shift, side) for side in (SIDE, 2 * SIDE))
    halved = torch.nn.functional.avg_pool2d(large.permute(2, 0, 1), 2).permute(1, 2, 0)
    assert (small - halved).abs().max() < 2 / SIDE / 10


def test_the_spline_interpolates_and_reproduces_affine_maps():
    rng = np.random.default_rng(3)
    points, values = rng.uniform(-1, 1, (20, 2)), rng.normal(size=(20, 2))
    assert np.allclose(thin_plate(points, values, points, 0.0), values)
    elsewhere, linear = rng.uniform(-2, 2, (30, 2)), np.array([[0.5, 1.0], [-2.0, 0.1]])
    assert np.allclose(thin_plate(points, points @ linear + 3, elsewhere, 0.1), elsewhere @ linear + 3)


def test_directions_state_whether_pixels_are_warped(tmp_path):
    """Lines of before there was anything to carry are walked as they were calibrated."""
    rotator = load_latent_rotator(measure=False)
    crop = portrait_crop(SIDE)
    light = rotator.prepare(crop).light
    lines = rotator.directions_of(light)
    assert lines.carry
    replace(lines, carry=False).save(tmp_path / f"{light}.safetensors")
    bare = load_latent_rotator(directions=tmp_path, measure=False)
    face = bare.prepare(crop)
    assert face.latent.shape[1] == 2  # with its remainder
    decoded = face.rotate([0.0, 10.0])
    assert np.array_equal(decoded.frames[0].image, decoded.reconstruction)
    shown, asked_not_to = (r.prepare(crop).rotate([0.0, 10.0]) for r in (rotator, replace(rotator, carry=False)))
    assert np.array_equal(shown.frames[0].image, shown.source)
    assert not np.array_equal(shown.frames[1].image, asked_not_to.frames[1].image)
    for one, other in zip(asked_not_to.frames, decoded.frames, strict=True):
        assert np.array_equal(one.image, other.image)


def test_a_face_without_landmarks_keeps_its_residual_latent():
    rotator = load_latent_rotator(measure=False)
    noise = (np.random.default_rng(0).random((SIDE, SIDE, 3)) * 255).astype(np.uint8)
    assert rotator.prepare(noise).latent.ndim == 5
    assert rotator.prepare(portrait_crop(SIDE)).latent.ndim == 4
