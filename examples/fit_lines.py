"""A small store of latents, and lines fitted to it: `python fit_lines.py [FOLDER OF CROPS [OUT]]`.

Seven images of one head teach its own turn and nobody else's; from a hundred people on lines turn strangers.
"""

import sys
from pathlib import Path

import latentrot
from latentrot.bundles import bundled_example
from latentrot.data.celeba import FaceFolder
from latentrot.directions.fit import FitConfig
from latentrot.faces.exact import read_exact_labels
from latentrot.store.work import embed_folder

given = dict(enumerate(sys.argv))
data = Path(given.get(1, bundled_example("heads64")))
out = Path(given.get(2, "small"))

model = latentrot.load_model("heads64")
folder = FaceFolder(data)
store = latentrot.LatentStore(out / "latents")
embed_folder(folder, model, store)  # goes on where it was stopped
labels = read_exact_labels(folder)  # yaw, pitch, roll and light as the folder's own tables say

config = FitConfig(width=30, min_count=1, held_out=0, calibrate=1)
lines = latentrot.fit_directions(store, labels, "left", config, model=model)
lines.save(out / "left.safetensors")
print(f"latents a bin {lines.provenance['counts']}, nominal steps {lines.step_sizes} turn by {lines.achieved} degrees")
