"""Generate and write views around a head: of a photograph, of a sampled person, or interpolated between two people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from latentrot.data.animation import write_animation
from latentrot.data.arrays import resize, strip, to_uint8
from latentrot.data.images import write_image
from latentrot.errors import LatentrotError
from latentrot.files import create_folder, write_atomically
from latentrot.geometry import HeadFitter
from latentrot.geometry.export import export_head
from latentrot.output import write_output_folder
from latentrot.portrait.portrait import Portrait
from latentrot.portrait.results import synthetic_metadata
from latentrot.rotators.spin.geometry import HeadCamera, ProjectedColours, colour_differences, composed
from latentrot.rotators.spin.reconstruct import export_views
from latentrot.rotators.spin.render import camera_alignment
from latentrot.rotators.spin.rotator import SpinRotator, pose_of
from latentrot.rotators.spin.sample import SpinViews, draw_views, identity_of, spin

__all__ = [
    "Spun",
    "camera_of",
    "composed_views",
    "drawn_images",
    "poses_around",
    "shown_normals",
    "spin_between",
    "spin_new",
    "spin_photograph",
    "write_between",
    "write_spun",
]

#: duration of a turntable rotation in milliseconds, and its side in pixels
ROUND_MS, SHOWN_PX = 4_800, 192
#: min and max side in pixels of the composed views of a photograph; the geometry's own grid is no finer
MIN_COMPOSED_PX, MAX_COMPOSED_PX = 128, 384
#: max number of views that colour the mesh of a photograph
MESH_VIEWS = 16
#: number of interpolated identities, and yaws of the views of each, which are generated in one sample
BETWEEN = 7
YAWS = (-135.0, -90.0, -45.0, 0.0, 45.0, 90.0, 135.0, 180.0)


@dataclass(frozen=True, eq=False)
class Spun:
    """Views around a head.

    Attributes:
        views: generated views in order of yaw, at the resolution of the model.
        images: (n, s, s, 3) uint8 the views as shown: of a photograph, composed in its resolution.
        warnings: warnings for the user.
        provenance: metadata of the files.
        camera: renders the head fitted to the photograph; None: no geometry.
        distances: (n,) 1 - cosine of the identity of each view to the photograph; None without a user's identity network.
    """

    views: SpinViews
    images: np.ndarray
    warnings: tuple[str, ...]
    provenance: dict[str, object]
    camera: HeadCamera | None = None
    distances: np.ndarray | None = None


def poses_around(count: int, pitch: float = 0.0, span: float = 360.0) -> torch.Tensor:
    """(count, 2) poses in degrees with evenly spaced yaws.

    Args:
        count: number of poses.
        pitch: pitch of all poses.
        span: arc of the yaws, centred on the front; the full circle starts at -180 and includes yaw 0, a smaller arc includes
            both of its ends.
    """
    if span < 360:
        yaw = torch.linspace(-span / 2, span / 2, count) if count > 1 else torch.zeros(1)
    else:
        yaw = (torch.arange(count) - count // 2) * (360 / count)
    return torch.stack([yaw, torch.full_like(yaw, pitch)], 1)


def spin_photograph(
    portrait: Portrait, rotator: SpinRotator, count: int, pitch: float = 0.0, span: float = 360.0
) -> Spun:
    """Generate views around the head in a photograph.

    Args:
        portrait: from `open_portrait`.
        rotator: from `load_rotator`.
        count: number of views.
        pitch: pitch of the views in degrees.
        span: see `poses_around`.
    """
    crop = crop_of(portrait, rotator)
    pose, requested = pose_of(crop), poses_around(count, pitch, span)
    camera, warnings = camera_of(portrait, rotator, pose)
    if camera is not None:
        crop = np.rint(camera.rendered(pose).image.clip(0, 255)).astype(np.uint8)
    views = rotator.draw(crop, pose, requested, camera)
    images = drawn_images(views) if camera is None else composed_views(views, camera)
    provenance = {
        "source": portrait.path.name,
        "yaw_deg": round(float(pose[0]), 1),
        "pitch_deg": round(float(pose[1]), 1),
    }
    warnings = (*portrait.warnings, *rotator.model.warnings, *warnings)
    distances = identity_distances(rotator, crop, images)
    return Spun(views, images, warnings, provenance | provenance_of(rotator, camera), camera, distances)


def identity_distances(rotator: SpinRotator, crop: np.ndarray, images: np.ndarray) -> np.ndarray | None:
    """(n,) 1 - cosine of the identity of each image to that of a crop, by the user's identity network; None without one."""
    model = rotator.model
    if model.person is None or not model.identity_digest:
        return None
    source, *views = model.person.embed([crop, *images])
    return 1 - np.stack(views) @ source


def camera_of(
    portrait: Portrait, rotator: SpinRotator, pose: torch.Tensor
) -> tuple[HeadCamera | None, tuple[str, ...]]:
    """The camera of a photograph, or None for a model without geometry or a face without a head; warnings for the user."""
    if not rotator.model.network.with_geometry:
        return None, ()
    image, faces = portrait.image, portrait.alignments
    fitter = HeadFitter(device=str(rotator.model.device))
    try:
        head = fitter.fit(image, faces[0], portrait.faces) if faces else fitter.fit_crop(image)
    except LatentrotError as error:
        return None, (f"no head can be fitted, so geometry shows the model nothing: {error}",)
    if not faces:
        return HeadCamera.of_crop(head, pose, composed_side(len(image))), head.warnings
    alignment = camera_alignment(head.fit, (image.shape[1], image.shape[0]))
    return HeadCamera.of_photograph(head, alignment, pose, composed_side(alignment.crop_side)), head.warnings


def composed_side(crop_side: float) -> int:
    """Side in pixels of the composed views of a photograph whose face crop has this side."""
    return int(np.clip(round(crop_side), MIN_COMPOSED_PX, MAX_COMPOSED_PX))


def composed_views(views: SpinViews, camera: HeadCamera) -> np.ndarray:
    """Compose views in the resolution of the photograph, (n, s, s, 3) uint8.

    What the source shows is rendered from its own pixels. Elsewhere the difference of the generated view from the rendered
    one is added to the rendered one, which keeps its fine detail.
    """
    differences = colour_differences(drawn_images(views).astype(np.float32), views.pose, camera)
    return np.stack([composed(d, camera.rendered(pose)) for d, pose in zip(differences, views.pose, strict=True)])


def spin_new(rotator: SpinRotator, count: int, pitch: float = 0.0, span: float = 360.0) -> Spun:
    """Generate views around the head of a sampled person; the seed of the rotator determines the person."""
    views = spin(rotator.model, None, torch.zeros(2), poses_around(count, pitch, span), config=rotator.sample)
    return Spun(views, drawn_images(views), rotator.model.warnings, {"source": "nobody"} | provenance_of(rotator))


def spin_between(portraits: Sequence[Portrait], rotator: SpinRotator) -> list[SpinViews]:
    """Interpolate between the identity embeddings of two people, with the same noise and without input views.

    Returns:
        Views of the first person, of the `BETWEEN` interpolated ones, and of the second.

    Raises:
        LatentrotError: the model has no identity condition.
    """
    if rotator.model.person is None:
        why = rotator.model.warnings or (f"{rotator.name} was trained without identities",)
        raise LatentrotError(f"{why[0]}; interpolating identities needs a model with an identity condition")
    first, second = (identity_of(rotator.model, crop_of(portrait, rotator)) for portrait in portraits)
    poses = torch.tensor([[yaw, 0.0] for yaw in YAWS])
    shares = torch.linspace(0, 1, BETWEEN + 2).tolist()
    return [draw_views(rotator.model, None, poses, slerp(first, second, share), rotator.sample) for share in shares]


def slerp(a: torch.Tensor, b: torch.Tensor, share: float) -> torch.Tensor:
    """Spherical interpolation of unit vectors, from a (share 0) to b (share 1)."""
    angle = torch.arccos((a @ b).clamp(-1, 1))
    if angle < 1e-4:
        return a
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


def crop_of(portrait: Portrait, rotator: SpinRotator) -> np.ndarray:
    """The face crop, (s, s, 3) uint8 in the CelebA frame."""
    crops = portrait.alignments
    return crops[0].crop(portrait.image, 2 * rotator.model.resolution) if crops else portrait.image


def provenance_of(rotator: SpinRotator, camera: HeadCamera | None = None) -> dict[str, object]:
    """Metadata with the provenance of the files."""
    steps, guidance = rotator.sample.with_geometry(camera is not None)
    return {"model": rotator.name, "steps": steps, "guidance": guidance, "seed": rotator.sample.seed}


# --- files ---------------------------------------------------------------------------------------------------------------


def drawn_images(views: SpinViews) -> np.ndarray:
    """The generated images, (n, s, s, 3) uint8."""
    return to_uint8(views.images[:, :3])


def shown_normals(spun: Spun) -> np.ndarray:
    """The generated normals, (n, s, s, 3) uint8; of a photograph without the noise beside the head."""
    normals = spun.views.images[:, 3:]
    if spun.camera is not None:
        head = [spun.camera.rendered(pose).reduced(normals.shape[-1]).head for pose in spun.views.pose]
        normals = normals * torch.from_numpy(np.stack(head))[:, None]
    return to_uint8(normals)


def write_spun(spun: Spun, out: Path, *, motion: str, mesh: str | None) -> list[Path]:
    """Write the files of `spun_files`, replacing those of an earlier run; returns the two folders and the other files."""
    files = write_output_folder(out, lambda: spun_files(spun, out, motion=motion, mesh=mesh))
    return list(dict.fromkeys(f if f.parent == out else f.parent for f in files))


def spun_files(spun: Spun, out: Path, *, motion: str, mesh: str | None) -> list[Path]:
    """Write views/, normals/, poses.csv, sheet.png, turntable.MOTION and head.MESH into a folder; returns all files.

    Args:
        spun: views of a head.
        out: target folder.
        motion: format of the turntable: gif, webp or mp4 (needs PyAV).
        mesh: format of the mesh: glb or ply (need trimesh); None: no mesh.
    """
    files: list[Path] = []
    images, normals = list(spun.images), list(shown_normals(spun))
    metadata = synthetic_metadata(spun.provenance)
    for name, shown in (("views", images), ("normals", normals)):
        create_folder(out / name)
        for i, image in enumerate(shown):
            files.append(out / name / f"{i:03d}.png")
            write_image(files[-1], image, metadata)
    table = pd.DataFrame(spun.views.pose.numpy().round(3), columns=["yaw_deg", "pitch_deg"])
    table.insert(0, "image_id", [f"{i:03d}.png" for i in range(len(table))])
    if spun.distances is not None:
        table["identity_distance"] = spun.distances.round(4)
    write_atomically(out / "poses.csv", lambda p: table.to_csv(p, index=False))
    frames = [np.concatenate([resize(p, SHOWN_PX) for p in pair], 1) for pair in zip(images, normals, strict=True)]
    turntable = out / f"turntable.{motion}"
    write_animation(turntable, frames, ROUND_MS // len(frames), metadata)
    columns = np.unique(np.linspace(0, len(images) - 1, 8).astype(int))
    shown = [images[i] for i in columns] + [resize(normals[i], len(images[0])) for i in columns]
    sheet = strip(shown, columns=len(columns))
    write_image(out / "sheet.png", sheet, metadata)
    files += [out / "poses.csv", turntable, out / "sheet.png"]
    if mesh is not None:
        files += write_head(spun, out / f"head.{mesh}")
    return files


def write_head(spun: Spun, path: Path) -> list[Path]:
    """Write the mesh: of a photograph the fitted head, in generated colours where it shows none; otherwise a visual hull."""
    if spun.camera is None:
        export_views(spun.views, path)
        return [path]
    rows = np.unique(np.linspace(0, len(spun.views) - 1, MESH_VIEWS).astype(int))
    differences = colour_differences(drawn_images(spun.views).astype(np.float32), spun.views.pose, spun.camera)
    correct = ProjectedColours(spun.camera, differences[rows], spun.views.pose[rows])
    return export_head(spun.camera.head, path, "frontal", correct)


def write_between(
    people: Sequence[SpinViews], out: Path, provenance: Mapping[str, object], *, motion: str
) -> list[Path]:
    """Write between.png, one row per person, and between.MOTION, an animation of the faces (gif, webp or mp4)."""
    return write_output_folder(out, lambda: between_files(people, out, provenance, motion))


def between_files(people: Sequence[SpinViews], out: Path, provenance: Mapping[str, object], motion: str) -> list[Path]:
    """Write the files of `write_between`."""
    metadata, faces = synthetic_metadata(provenance), [list(drawn_images(views)) for views in people]
    write_image(out / "between.png", strip([p for row in faces for p in row], columns=len(YAWS)), metadata)
    front = YAWS.index(0.0)
    animation = out / f"between.{motion}"
    write_animation(animation, [resize(row[front], SHOWN_PX) for row in faces], 250, metadata)
    return [out / "between.png", animation]
