"""A node that edits the face in an image: yaw, pitch, roll and properties as widgets.

What is slow is done once for an image and kept: its faces, the head, the inverted latent, and each setting of the
properties. Moving a slider then takes about a second, as on the page of `latentrot app`.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

import latentrot
from latentrot.data.images import Photograph
from latentrot.directions.properties import Wanted, by
from latentrot.errors import LatentrotError
from latentrot.faces.detect import detect_faces
from latentrot.portrait.interactive import Subject, rotate_subject, take_face
from latentrot.portrait.portrait import EditConfig, Portrait
from latentrot.rotators.properties import PropertyEditor, load_property_editor
from latentrot.rotators.protocol import Rotator
from latentrot.rotators.registry import load_rotator, options_of, rotator_names

log = logging.getLogger(__name__)

#: widgets of properties: name -> the largest change to either side, in the property's unit
PROPERTIES = {
    "smile": 1.0, "mouth_open": 1.0, "age": 20.0, "male": 1.0, "sunglasses": 1.0, "bangs": 1.0, "beard": 1.0,
}  # fmt: skip
#: so many images stay prepared
KEPT = 8
#: rotations to either side, degrees
REACH = 40.0


@cache
def rotator_of(name: str) -> Rotator:
    """A rotator, loaded once."""
    return load_rotator(name)


@cache
def property_editor() -> PropertyEditor:
    """The editor of properties, loaded once."""
    return load_property_editor()


class Prepared:
    """Faces that were prepared, the latest `KEPT` of them."""

    def __init__(self) -> None:
        self.subjects: OrderedDict[tuple[str, str, int, str], Subject] = OrderedDict()

    def subject(self, image: np.ndarray, rotator: str, face: int, light: str) -> Subject:
        """A face of a (h, w, 3) uint8 image, prepared when it is first asked for.

        Raises:
            LatentrotError: no face, or no such face.
        """
        digest = hashlib.blake2b(image.tobytes() + str(image.shape).encode(), digest_size=16).hexdigest()
        key = digest, rotator, face, light
        if key not in self.subjects:
            faces = tuple(detect_faces(image, EditConfig().perception_device))
            if not faces:
                raise LatentrotError("no face found in the image; give one with a larger, clearer face")
            portrait = Portrait(Path("image"), Photograph(image, image), faces)
            rotators = {rotator: rotator_of(rotator)}
            self.subjects[key] = take_face(portrait, face, rotators, light, editor=property_editor())
        self.subjects.move_to_end(key)
        while len(self.subjects) > KEPT:
            self.subjects.popitem(last=False)
        return self.subjects[key]


def wanted_of(light_turn: float, values: dict[str, float]) -> dict[str, Wanted]:
    """What the widgets of properties ask for; those at 0 ask for nothing."""
    wanted = {name: by(value) for name, value in values.items() if value}
    if light_turn:
        wanted["light_right" if light_turn > 0 else "light_left"] = by(abs(light_turn))
    return wanted


def number(reach: float, step: float, tooltip: str) -> tuple[str, dict[str, Any]]:
    """A widget for a number from -reach to reach, 0 by default."""
    return "FLOAT", {"default": 0.0, "min": -reach, "max": reach, "step": step, "display": "slider", "tooltip": tooltip}


class LatentrotEdit:
    """Turn the head in an image and edit its properties."""

    CATEGORY = "image/face"
    DESCRIPTION = "Turn the head in an image by degrees and edit smile, age, light and others; each image of a batch."
    FUNCTION = "edit"
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "changed")
    OUTPUT_TOOLTIPS = ("the edited image", "1 where the edit changed a pixel")
    prepared: ClassVar[Prepared] = Prepared()

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        """The widgets."""
        kinds = {name: options_of(name) for name in rotator_names()}
        offered = [name for name, kind in kinds.items() if kind is not None and kind.offered and kind().is_available()]
        by_how_much = {
            name: number(v, v / 20, f"{name.replace('_', ' ')}: change by") for name, v in PROPERTIES.items()
        }
        return {
            "required": {
                "image": ("IMAGE",),
                "yaw": number(REACH, 1.0, "degrees; > 0: the nose turns to the viewer's right"),
                "pitch": number(REACH, 1.0, "degrees; > 0: looks up"),
                "roll": number(REACH, 1.0, "degrees; > 0: leans clockwise"),
                "light_from": number(1.0, 0.05, "bring light from the left (< 0) or the right (> 0)"),
                **by_how_much,
                "rotator": (offered, {"default": offered[0], "tooltip": "what draws what the turned head uncovers"}),
                "face": ("INT", {"default": 0, "min": 0, "max": 8, "tooltip": "which face, the largest is 0"}),
                "light": (
                    ["auto", "left", "center", "right"],
                    {"tooltip": "where the main light of the image comes from"},
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> str:
        """The same inputs give the same image, as long as latentrot is the same."""
        return latentrot.__version__

    def edit(
        self, image: torch.Tensor, yaw: float, pitch: float, roll: float, light_from: float, rotator: str, face: int,
        light: str, **properties: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Edit every image of a batch; one without such a face passes unchanged, unless all of them do.

        Args:
            image: (b, h, w, 3) float in [0, 1].
            yaw: degrees.
            pitch: degrees.
            roll: degrees.
            light_from: -1 (left) to 1 (right).
            rotator: name.
            face: number.
            light: illumination class of the source.
            **properties: by how much each of `PROPERTIES` changes.

        Returns:
            (b, h, w, 3) images and (b, h, w) mask, float in [0, 1], 1 where a pixel was changed.

        Raises:
            LatentrotError: none of the images could be edited, and why.
        """
        wanted = wanted_of(light_from, properties)
        results, refused = [], []
        for source in image[..., :3].cpu().float():
            before = (source.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            try:
                subject = self.prepared.subject(before, rotator, face, light)
                after = rotate_subject(subject, [yaw], rotator, pitch, wanted, roll)[0].image
            except LatentrotError as error:
                log.warning("latentrot: %s", error)
                refused.append(error)
                after = before
            changed = torch.from_numpy((after != before).any(2))
            results.append((torch.where(changed[..., None], torch.from_numpy(after) / 255, source), changed.float()))
        if len(refused) == len(image):
            raise refused[0]
        images, masks = zip(*results, strict=True)
        return torch.stack(images), torch.stack(masks)


NODE_CLASS_MAPPINGS = {"LatentrotEdit": LatentrotEdit}
NODE_DISPLAY_NAME_MAPPINGS = {"LatentrotEdit": "Edit face (latentrot)"}
