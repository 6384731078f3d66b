"""Random parameters of heads; they depend only on the seed and the number of the head."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from latentrot.errors import LatentrotError

__all__ = [
    "TEST_SEED",
    "Background",
    "Hair",
    "HeadConfig",
    "HeadParameters",
    "KeyLight",
    "light_side",
    "mirror",
    "sample_head",
    "sample_light",
    "with_light_of",
    "with_pose",
]

#: seeds from this one on are reserved for testing: no model is trained or tuned on their heads
TEST_SEED = 1_000_000
#: max azimuth in degrees of a light that counts as center
CENTER_DEG = 25.0
SIDES = ("left", "center", "right")
HairColour = Literal["black", "brown", "blond", "red", "gray"]

#: skin colours, sRGB, light to dark
SKIN_TONES = np.array(
    [[243, 207, 186], [235, 192, 166], [224, 176, 146], [203, 150, 116], [168, 116, 84], [128, 84, 60], [92, 60, 44]], float
)  # fmt: skip
HAIR_COLOURS: dict[HairColour, tuple[int, int, int]] = {
    "black": (32, 27, 26), "brown": (82, 55, 38), "blond": (191, 152, 96), "red": (132, 66, 36), "gray": (158, 154, 150),
}  # fmt: skip
IRIS_COLOURS = np.array(
    [[74, 46, 28], [48, 32, 24], [96, 66, 38], [98, 104, 66], [86, 118, 146], [110, 122, 130]], float
)


@dataclass(frozen=True)
class HeadConfig:
    """Distribution of the heads. Angles in degrees; left and right are the viewer's.

    Args:
        yaw_sd: standard deviation of the yaw; yaw > 0: nose to the right.
        yaw_max: max absolute yaw; larger values are drawn again.
        pitch_sd: standard deviation of the pitch; pitch > 0: looks up.
        roll_sd: standard deviation of the roll; roll > 0: leans clockwise.
        identity_scale: deviation from the mean face, in standard deviations of the model.
        expression_scale: strength of expressions.
        bald: share of heads without hair.
        light_max: max absolute azimuth of the key light.
        light_gap: min difference between the key light's azimuth and the border between center and a side.
        elevation_max: max elevation of the key light; the min is 0.
    """

    yaw_sd: float = 20.0
    yaw_max: float = 60.0
    pitch_sd: float = 7.0
    roll_sd: float = 3.0
    identity_scale: float = 1.0
    expression_scale: float = 1.0
    bald: float = 0.08
    light_max: float = 75.0
    light_gap: float = 4.0
    elevation_max: float = 50.0

    def __post_init__(self) -> None:
        limits = {
            "yaw_sd": (0, 180), "yaw_max": (0, 180), "pitch_sd": (0, 45), "roll_sd": (0, 45), "identity_scale": (0, 3),
            "expression_scale": (0, 2), "bald": (0, 1), "light_max": (CENTER_DEG + self.light_gap, 90),
            "light_gap": (0, CENTER_DEG), "elevation_max": (0, 80),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise LatentrotError(f"{name} {value}: expected {low:g} to {high:g}")


@dataclass(frozen=True)
class KeyLight:
    """Lighting; fixed to the camera, not to the head.

    Args:
        azimuth_deg: azimuth of the key light; 0: from the camera, > 0: from the viewer's right.
        elevation_deg: elevation of the key light; > 0: from above.
        strength: strength of the key light.
        ambient: strength of the ambient light.
        fill: strength of a second light without shadow, from the direction of the camera.
        warmth: colour of the key light, from -1 (bluish) to 1 (reddish).
    """

    azimuth_deg: float
    elevation_deg: float
    strength: float
    ambient: float
    fill: float
    warmth: float


@dataclass(frozen=True)
class Hair:
    """Hair of a head.

    Args:
        bald: True: no hair.
        colour: name of the colour.
        rgb: sRGB colour, 0 to 255.
        volume_cm: distance of the hair from the scalp.
        length: 0: cropped above the ears; > 0: hanging beside the face (1: to the shoulders).
        hairline_deg: elevation of the hairline above the forehead, seen from the middle of the head.
        fringe_deg: extent of a fringe below the hairline.
        temples_deg: azimuth from which on long hair hangs beside the face.
        curl: 0 straight to 1 curly.
        parting: azimuth of the parting in degrees.
        noise: seed of the noise pattern.
    """

    bald: bool
    colour: HairColour
    rgb: tuple[float, float, float]
    volume_cm: float
    length: float
    hairline_deg: float
    fringe_deg: float
    temples_deg: float
    curl: float
    parting: float
    noise: int


@dataclass(frozen=True)
class Background:
    """Background: a gradient of two sRGB colours (0 to 255) with smooth noise.

    Args:
        first: start colour.
        second: end colour.
        angle_deg: direction of the gradient.
        amount: strength of the noise.
        scale: number of noise cells across the image.
        noise: seed of the noise pattern.
    """

    first: tuple[float, float, float]
    second: tuple[float, float, float]
    angle_deg: float
    amount: float
    scale: float
    noise: int


@dataclass(frozen=True, eq=False)
class HeadParameters:
    """All parameters of an image except its size. Angles in degrees; left and right are the viewer's.

    Args:
        seed: seed of the set of heads.
        index: number of the head in the set.
        identity: (100,) coefficients of the identity modes.
        expression: (57,) coefficients of the expression modes.
        skin: sRGB colour, 0 to 255.
        tone: skin tone, from 0 (palest) to 1 (darkest).
        lips: redness of the lips relative to the skin.
        blush: redness of the cheeks and the nose.
        stubble: darkness of the beard area.
        brow_cm: half the width of the brows.
        brow_dark: darkness of the brows.
        iris: sRGB colour, 0 to 255.
        gaze: (2,) shift of the irises in cm, right and up.
        cloth: sRGB colour, 0 to 255.
        hair: the hair.
        light: the light.
        background: the background.
        yaw_deg: yaw; > 0: nose to the viewer's right.
        pitch_deg: pitch; > 0: looks up.
        roll_deg: roll; > 0: leans clockwise.
        mirrored: mirror face, hair and background, but neither pose nor light.
    """

    seed: int
    index: int
    identity: np.ndarray
    expression: np.ndarray
    skin: tuple[float, float, float]
    tone: float
    lips: float
    blush: float
    stubble: float
    brow_cm: float
    brow_dark: float
    iris: tuple[float, float, float]
    gaze: tuple[float, float]
    cloth: tuple[float, float, float]
    hair: Hair
    light: KeyLight
    background: Background
    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    mirrored: bool = field(default=False)


def with_pose(head: HeadParameters, yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> HeadParameters:
    """The head with the same light and background in another pose."""
    return replace(head, yaw_deg=float(yaw_deg), pitch_deg=float(pitch_deg), roll_deg=float(roll_deg))


def with_light_of(head: HeadParameters, other: HeadParameters) -> HeadParameters:
    """The head with the light and background of another one."""
    return replace(head, light=other.light, background=other.background)


def mirror(head: HeadParameters) -> HeadParameters:
    """The head whose image is exactly the mirror image of this head's image."""
    light = replace(head.light, azimuth_deg=-head.light.azimuth_deg)
    return replace(head, light=light, yaw_deg=-head.yaw_deg, roll_deg=-head.roll_deg, mirrored=not head.mirrored)


def light_side(azimuth_deg: float) -> str:
    """Side of the image from which a light comes: left, center or right."""
    return SIDES[1 + int(azimuth_deg > CENTER_DEG) - int(azimuth_deg < -CENTER_DEG)]


def sample_head(seed: int, index: int, config: HeadConfig | None = None, side: str | None = None) -> HeadParameters:
    """Draw the parameters of a head.

    Args:
        seed: seed of the set; seeds from TEST_SEED on are for testing only.
        index: number of the head in the set; the head depends only on seed, index and config.
        config: distribution of the heads.
        side: illumination class (left, center, right); None: random.

    Raises:
        LatentrotError: seed or index is negative, or the side is unknown.
    """
    if seed < 0 or index < 0:
        raise LatentrotError(f"seed {seed}, index {index}: expected 0 or more")
    config = config or HeadConfig()
    # one random stream per part, so that changes to one part do not affect the others
    face, look, hair, light, behind, pose = (
        np.random.default_rng(s) for s in np.random.SeedSequence((seed, index)).spawn(6)
    )
    tone = float(look.beta(1.1, 1.9))
    skin = _skin(tone, look)
    return HeadParameters(
        seed=seed,
        index=index,
        identity=(config.identity_scale * face.standard_normal(100)).astype(np.float32),
        expression=_expression(face, config.expression_scale),
        skin=skin,
        tone=tone,
        lips=float(look.uniform(0.25, 1.0)),
        blush=float(look.uniform(0, 1)),
        stubble=float(max(0.0, look.uniform(-0.9, 0.6))),
        brow_cm=float(look.uniform(0.28, 0.5)),
        brow_dark=float(look.uniform(0.6, 0.95)),
        iris=_colour(IRIS_COLOURS[look.integers(2 if tone > 0.5 else len(IRIS_COLOURS))] + look.normal(0, 6, 3)),
        gaze=(float(look.normal(0, 0.09)), float(look.normal(0, 0.05))),
        cloth=_colour(look.uniform(20, 220, 3)),
        hair=_hair(hair, config.bald, tone),
        light=sample_light(light, config, side),
        background=_background(behind),
        yaw_deg=_bounded(pose, config.yaw_sd, config.yaw_max),
        pitch_deg=_bounded(pose, config.pitch_sd, 3 * config.pitch_sd),
        roll_deg=_bounded(pose, config.roll_sd, 3 * config.roll_sd),
    )


def sample_light(rng: np.random.Generator, config: HeadConfig, side: str | None = None) -> KeyLight:
    """Draw a light: left, center and right with equal probability, uniform within each."""
    drawn = SIDES[rng.integers(3)]
    side = side or drawn
    if side not in SIDES:
        raise LatentrotError(f"light {side!r}: expected {', '.join(SIDES)}")
    near, far = CENTER_DEG - config.light_gap, CENTER_DEG + config.light_gap
    low, high = {"left": (-config.light_max, -far), "center": (-near, near), "right": (far, config.light_max)}[side]
    return KeyLight(
        azimuth_deg=float(rng.uniform(low, high)),
        elevation_deg=float(rng.uniform(0, config.elevation_max)),
        strength=float(rng.uniform(0.65, 1.0)),
        ambient=float(rng.uniform(0.16, 0.42)),
        fill=float(rng.uniform(0.02, 0.22)),
        warmth=float(rng.uniform(-0.7, 1.0)),
    )


def _bounded(rng: np.random.Generator, sd: float, largest: float) -> float:
    """A normally distributed number, drawn again until it is within the bounds."""
    while abs(value := float(rng.normal(0, sd))) > largest:
        pass
    return value


def _colour(rgb: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = np.clip(rgb, 4, 250)
    return float(red), float(green), float(blue)


def _skin(tone: float, rng: np.random.Generator) -> tuple[float, float, float]:
    steps = np.arange(len(SKIN_TONES)) / (len(SKIN_TONES) - 1)
    rgb = np.array([np.interp(tone, steps, SKIN_TONES[:, c]) for c in range(3)])
    return _colour(rgb * (1 + rng.normal(0, 0.02, 3)) + rng.normal(0, 3))


def _hair(rng: np.random.Generator, bald: float, tone: float) -> Hair:
    weights = np.array([0.24, 0.34, 0.22, 0.06, 0.14]) if tone < 0.5 else np.array([0.72, 0.16, 0.02, 0.01, 0.09])
    colour: HairColour = list(HAIR_COLOURS)[rng.choice(5, p=weights)]
    is_long = bool(rng.uniform() < 0.5)
    return Hair(
        bald=bool(rng.uniform() < bald),
        colour=colour,
        rgb=_colour(np.array(HAIR_COLOURS[colour]) * rng.uniform(0.8, 1.2) + rng.normal(0, 3, 3)),
        volume_cm=float(rng.uniform(0.7, 1.8) if is_long else rng.gamma(2.0, 0.45) + 0.2),
        length=float(rng.uniform(0.45, 1.0)) if is_long else 0.0,
        hairline_deg=float(rng.uniform(30, 40)),
        fringe_deg=float(rng.uniform(6, 15)) if rng.uniform() < 0.2 else 0.0,
        temples_deg=float(rng.uniform(50, 66)),
        curl=float(rng.uniform(0, 1) ** 2),
        parting=float(rng.uniform(-35, 35)),
        noise=int(rng.integers(2**31)),
    )


def _background(rng: np.random.Generator) -> Background:
    grey = rng.uniform(15, 235)
    first = grey + rng.normal(0, 22, 3)
    second = first * rng.uniform(0.45, 1.3) + rng.normal(0, 18, 3)
    return Background(
        first=_colour(first),
        second=_colour(second),
        angle_deg=float(rng.uniform(0, 360)),
        amount=float(rng.uniform(0, 0.9)),
        scale=float(np.exp(rng.uniform(np.log(1.2), np.log(7)))),
        noise=int(rng.integers(2**31)),
    )


# --- expressions ----------------------------------------------------------------------------------------------------

#: the 57 expressions of ICT in order; LR: one expression for the left and one for the right side
_NAMES = (
    "PupilDilate_LR browDown_LR browInnerUp_LR browOuterUp_LR cheekPuff_LR cheekRaiser_LR cheekSquint_LR",
    "eyeBlink_LR eyeLookDown_LR eyeLookIn_LR eyeLookOut_LR eyeLookUp_LR eyeSquint_LR eyeWide_LR jawForward",
    "jawLeft jawOpen jawRight mouthClose mouthDimple_LR mouthFrown_LR mouthFunnel mouthLeft mouthLowerDown_LR",
    "mouthPress_LR mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper",
    "mouthSmile_LR mouthStretch_LR mouthUpperUp_LR noseSneer_LR",
)
EXPRESSIONS = [
    full
    for name in " ".join(_NAMES).split()
    for full in ([name[:-1], name[:-2] + "R"] if name.endswith("_LR") else [name])
]


def _expression(rng: np.random.Generator, scale: float) -> np.ndarray:
    """(57,) coefficients: often a smile, sometimes an open mouth, slight motion of brows and lids; nearly symmetric."""
    weights = dict.fromkeys(EXPRESSIONS, 0.0)

    def put(name: str, value: float) -> None:
        for full in (name, f"{name}_L", f"{name}_R"):
            if full in weights:
                weights[full] = max(0.0, value * (1 + 0.12 * float(rng.normal()))) * scale

    smile = max(0.0, float(rng.uniform(-0.5, 1.0)))
    put("mouthSmile", 0.8 * smile)
    put("cheekSquint", 0.4 * smile * rng.uniform())
    put("mouthUpperUp", 0.35 * smile * rng.uniform())
    put("mouthLowerDown", 0.25 * smile * rng.uniform())
    put("jawOpen", max(0.0, float(rng.uniform(-0.25, 0.25))))
    put("mouthFrown", max(0.0, float(rng.uniform(-1.5, 0.4))) * (smile == 0))
    put("mouthPucker", max(0.0, float(rng.uniform(-1.5, 0.35))) * (smile == 0))
    put("browInnerUp", max(0.0, float(rng.uniform(-0.6, 0.6))))
    put("browOuterUp", max(0.0, float(rng.uniform(-0.6, 0.5))))
    put("browDown", max(0.0, float(rng.uniform(-0.8, 0.6))))
    put("eyeSquint", max(0.0, float(rng.uniform(-0.4, 0.4))) + 0.2 * smile)
    put("eyeBlink", max(0.0, float(rng.uniform(-0.3, 0.22))))
    put("eyeWide", max(0.0, float(rng.uniform(-0.8, 0.4))))
    return np.array(list(weights.values()), np.float32)
