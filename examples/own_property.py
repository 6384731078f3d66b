"""A property of your own, from a table of one column: `python own_property.py [FOLDER OF CROPS TABLE.csv COLUMN [OUT]]`.

The seven images of one rendered head can teach little; a few hundred photographs give a direction worth having.
"""

import sys
from pathlib import Path

import pandas as pd

import latentrot
from latentrot.bundles import bundled_example
from latentrot.data.arrays import to_tensor, to_uint8
from latentrot.data.celeba import FaceFolder
from latentrot.data.images import write_image
from latentrot.directions.property_fit import PropertyFitConfig, fit_properties
from latentrot.directions.property_walk import walked
from latentrot.store.work import embed_folder

given = dict(enumerate(sys.argv))
folder = FaceFolder(Path(given.get(1, bundled_example("heads64"))))
column, out = given.get(3, "turned"), Path(given.get(4, "own"))
if 2 in given:
    table = pd.read_csv(given[2], index_col="image_id")[[column]]
else:  # any number for each image: here its place in the row of views, from the left to the right
    table = pd.DataFrame({column: range(len(folder.ids))}, index=pd.Index(folder.ids, name="image_id"))

model = latentrot.load_model("heads64")
store = latentrot.LatentStore(out / "latents")
embed_folder(folder, model, store)
directions = fit_properties(store, table, [column], PropertyFitConfig(held_out=0, mirror=False))
directions.save(out / "own.safetensors")

x = to_tensor(folder.read_crops([folder.ids[0]], model.resolution))
z = latentrot.invert(model, x, schedule=store.space.schedule, residual=False)
z = walked(z, 2 * directions.vectors[column][None], model.first_stage.factor)
write_image(out / "changed.png", to_uint8(latentrot.decode(model, z, schedule=store.space.schedule))[0])
print(f"{column} of {folder.ids[0]} is now two units greater: {out / 'changed.png'}")
