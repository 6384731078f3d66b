"""Notebooks: an edit shows itself, and the example runs from its first cell to its last."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import latentrot
from latentrot.bundles import HOME, PORTRAIT, PROPERTIES, bundled_folder, part_in
from latentrot.data.images import read_image
from latentrot.portrait.results import LONGEST_SIDE, face_strip

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "portrait.ipynb"
FACES = bundled_folder("faces64")
needs_networks = pytest.mark.skipif(not (HOME / "face").is_dir(), reason="no networks to find landmarks with")


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@needs_networks
def test_an_edit_shows_itself_and_a_sweep_its_strip():
    edited = latentrot.edit(PORTRAIT, yaw=[0.0, 8.0], rotator="mesh")
    strip = opened(edited._repr_png_())
    assert np.array_equal(np.asarray(strip), face_strip(edited))
    assert strip.info["Software"] == "latentrot"
    single = latentrot.edit(PORTRAIT, yaw=0, rotator="mesh")
    assert np.array_equal(np.asarray(opened(single._repr_png_())), read_image(PORTRAIT))


@needs_networks
def test_a_large_photograph_is_shown_smaller(tmp_path):
    with Image.open(PORTRAIT) as portrait:
        portrait.convert("RGB").resize((1500, 1500)).save(tmp_path / "large.jpg")
    edited = latentrot.edit(tmp_path / "large.jpg", yaw=0, rotator="mesh")
    assert edited.image.shape[:2] == (1500, 1500)
    assert opened(edited._repr_png_()).size == (LONGEST_SIDE, LONGEST_SIDE)


@needs_networks
@pytest.mark.skipif(
    FACES is None or part_in(FACES, PROPERTIES) is None, reason="faces64 and its properties are not in this build"
)
def test_the_example_notebook_runs(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="running a notebook needs nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel", reason="and a kernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # what is kept is without outputs
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    images = [
        opened(base64.b64decode(output["data"]["image/png"]))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert [image.size for image in images] == [(512, 512), (976, 192), (512, 512)]
    source = read_image(PORTRAIT).astype(int)
    assert all(np.abs(np.asarray(images[i]).astype(int) - source).max() > 30 for i in (0, 2))
    assert (tmp_path / "turned.png").is_file()
