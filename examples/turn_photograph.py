"""A photograph in, a turned photograph out: `python turn_photograph.py [PHOTO [DEGREES [OUT]]]`."""

import sys
from pathlib import Path

import latentrot
from latentrot.bundles import PORTRAIT
from latentrot.data.images import write_image
from latentrot.portrait.photograph import edit_photograph

given = dict(enumerate(sys.argv))
photo, degrees = Path(given.get(1, PORTRAIT)), float(given.get(2, 15))
out = Path(given.get(3, f"{photo.stem}-turned.png"))

rotator = latentrot.load_rotator("mesh")  # geometry alone; "latent" also draws what the photograph does not show
edited = edit_photograph(photo, rotator, [degrees])

frame = edited.turned.frames[0]
print(f"yaw {edited.turned.yaw_deg:+.1f} before, {frame.yaw_deg:+.1f} after, asked for {degrees:+.1f} more")
write_image(out, edited.image_at(0))
print(f"wrote {out}")
