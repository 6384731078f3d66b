"""latentrot in other programs: a node of ComfyUI by its documented contract, and a Space that serves the page."""

import importlib.util
import inspect
import os
import re
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentrot.bundles import HOME, PORTRAIT, PROPERTIES, RESEARCH_ONLY, bundled_folder, part_in
from latentrot.errors import LatentrotError

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FACES = bundled_folder("faces64")
needs_networks = pytest.mark.skipif(
    not (HOME / "face").is_dir() or FACES is None or part_in(FACES, PROPERTIES) is None,
    reason="no networks to edit with",
)


@pytest.fixture(scope="module")
def nodes():
    """The node folder, imported as ComfyUI imports a folder of custom_nodes/: by its path, under a name of its own."""
    folder = EXAMPLES / "comfyui"
    name = str(folder)
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.fixture(scope="module")
def portrait():
    """(1, 192, 192, 3) float in [0, 1], with values between the 255th parts."""
    with Image.open(PORTRAIT) as image:
        pixels = np.array(image.convert("RGB").resize((192, 192), Image.Resampling.LANCZOS))
    return (torch.from_numpy(pixels)[None] / 255 * 0.997 + 0.001).float()


def run(node_class, **given):
    """Run a node as ComfyUI does: a new instance, every input by its name, those not given at their default."""
    kinds = {name: kind for group in node_class.INPUT_TYPES().values() for name, kind in group.items()}
    values = {n: k[0][0] if isinstance(k[0], list) else k[1]["default"] for n, k in kinds.items() if n not in given}
    node = node_class()
    results = getattr(node, node_class.FUNCTION)(**values, **given)
    assert isinstance(results, tuple)
    assert len(results) == len(node_class.RETURN_TYPES)
    return results


def test_the_nodes_keep_the_contract(nodes):
    assert set(nodes.NODE_DISPLAY_NAME_MAPPINGS) == set(nodes.NODE_CLASS_MAPPINGS)
    for node in nodes.NODE_CLASS_MAPPINGS.values():
        assert isinstance(node.CATEGORY, str)
        assert isinstance(node.RETURN_TYPES, tuple)
        assert len(node.RETURN_NAMES) == len(node.RETURN_TYPES)
        groups = node.INPUT_TYPES()
        assert set(groups) <= {"required", "optional", "hidden"}
        inputs = {name: kind for group in groups.values() for name, kind in group.items()}
        for kind in inputs.values():
            assert isinstance(kind, tuple)
            if isinstance(kind[0], list):
                assert kind[1].get("default", kind[0][0]) in kind[0]
            elif kind[0] in ("FLOAT", "INT"):
                assert kind[1]["min"] <= kind[1]["default"] <= kind[1]["max"]
            else:
                assert kind[0] in ("IMAGE", "MASK", "STRING")
        inspect.signature(getattr(node, node.FUNCTION)).bind(node(), **inputs)
        assert node.IS_CHANGED(**dict.fromkeys(inputs)) == node.IS_CHANGED(**dict.fromkeys(inputs))


@needs_networks
def test_the_widgets_are_properties_that_can_be_edited(nodes):
    module = sys.modules[f"{EXAMPLES / 'comfyui'}.nodes"]
    known = module.property_editor()
    for name in module.PROPERTIES:
        known.of(name)


@needs_networks
def test_nothing_asked_for_gives_the_image_itself(nodes, portrait):
    image, mask = run(nodes.NODE_CLASS_MAPPINGS["LatentrotEdit"], image=portrait, rotator="mesh")
    assert torch.equal(image, portrait)
    assert mask.shape == portrait.shape[:3]
    assert not mask.any()


@needs_networks
def test_a_batch_is_edited_and_what_has_no_face_passes(nodes, portrait):
    node = nodes.NODE_CLASS_MAPPINGS["LatentrotEdit"]
    batch = torch.cat([portrait, torch.full_like(portrait, 0.5)])
    images, masks = run(node, image=batch, yaw=12.0, roll=5.0, rotator="mesh")
    assert images.shape == batch.shape
    assert images.dtype == masks.dtype == torch.float32
    assert 0 <= images.min() <= images.max() <= 1
    assert 0.02 < masks[0].mean() < 0.9
    assert torch.equal(images[masks == 0], batch[masks == 0])
    assert not torch.equal(images[0], batch[0])
    assert torch.equal(images[1], batch[1])
    with pytest.raises(LatentrotError, match="no face found"):
        run(node, image=batch[1:], yaw=12.0, rotator="mesh")


@needs_networks
def test_what_was_prepared_is_kept_between_runs(nodes, portrait):
    node = nodes.NODE_CLASS_MAPPINGS["LatentrotEdit"]
    node.prepared.subjects.clear()
    run(node, image=portrait, yaw=5.0, rotator="mesh")
    (subject,) = node.prepared.subjects.values()
    prepared = subject.prepared["mesh"]
    first, _ = run(node, image=portrait, yaw=8.0, rotator="mesh")
    assert list(node.prepared.subjects.values()) == [subject]
    assert subject.prepared["mesh"] is prepared
    again, _ = run(node, image=portrait, yaw=8.0, rotator="mesh")
    assert torch.equal(again, first)
    run(node, image=portrait.flip(2), yaw=8.0, rotator="mesh")
    assert len(node.prepared.subjects) == 2


@needs_networks
def test_properties_change_the_face(nodes, portrait):
    image, mask = run(nodes.NODE_CLASS_MAPPINGS["LatentrotEdit"], image=portrait, smile=-1.0, rotator="mesh")
    assert 0.001 < mask.mean() < 0.3
    assert (image - portrait).abs().max() > 0.05


# ---- the Space --------------------------------------------------------------------------------------------------


@needs_networks
def test_the_space_serves_the_page(port, tmp_path):
    if find_spec("gradio") is None:
        pytest.skip("the page needs gradio")
    env = {**os.environ, "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "TMPDIR": str(tmp_path)}
    server = subprocess.Popen(
        [sys.executable, EXAMPLES / "space" / "app.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
    )
    try:
        said = server.stdout.readline()
        assert f"http://127.0.0.1:{port}" in said, said
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=60) as answer:
            assert b"gradio" in answer.read()
    finally:
        server.terminate()
        server.wait(60)


@pytest.mark.parametrize("folder", ["comfyui", "space"])
def test_both_folders_say_which_networks_are_for_research_only(folder):
    text = (EXAMPLES / folder / "README.md").read_text()
    for name in RESEARCH_ONLY:
        assert f"`{name}`" in text
    assert "non-commercial research only" in text
    assert re.match(r"latentrot(\[page\])?$", (EXAMPLES / folder / "requirements.txt").read_text().strip())
