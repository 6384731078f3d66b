"""Many turns of one face, inverted once, side by side: `python sweep_strip.py [CROP [OUT]]`."""

import sys
from pathlib import Path

import numpy as np

from latentrot.bundles import bundled_example
from latentrot.data.images import read_image, write_image
from latentrot.rotators.latent.rotator import load_latent_rotator

given = dict(enumerate(sys.argv))
head = bundled_example("heads64") / "img_align_celeba" / "000004.png"  # nobody's head, from the front
crop = read_image(Path(given.get(1, head)))  # (s, s, 3) uint8, a square in CelebA's frame
out = Path(given.get(2, "sweep.png"))

rotator = load_latent_rotator("heads64", measure=False)  # False: the average step, which is quick
turned = rotator.prepare(crop).rotate([-30, -15, 15, 30])

for frame in turned.frames:
    print(
        f"asked {frame.requested_deg:+5.1f}: yaw {turned.yaw_deg:+5.1f} -> {frame.yaw_deg:+5.1f}, light {frame.light}"
    )
write_image(out, np.hstack([turned.source, *(frame.image for frame in turned.frames)]))
print(f"wrote {out}")
