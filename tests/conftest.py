import os
import random
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import save_pixel_model
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from latentrot.diffusion.load import LatentModel, load_model

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(2)
else:
    cv2.setNumThreads(1)  # it asks for as many as there are cores, whatever OpenMP is told

#: files whose tests share nothing and take long: they are spread over all workers, and begun first
SPREAD = ("test_manual.py",)
#: those that take longest after them, so that no worker is left with one of them at the end
LONG = (
    "test_pair.py",
    "test_mesh.py",
    "test_app.py",
    "test_outputs.py",
    "test_video.py",
    "test_scale.py",
    "test_heads.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests so that the longest files begin first."""
    order = {name: place for place, name in enumerate((*SPREAD, *LONG))}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


class FilePerWorker(LoadFileScheduling):
    """Run the tests of a file on one worker, since they share what takes long to set up; those of `SPREAD` do not."""

    def _split_scope(self, nodeid: str) -> str:
        path = super()._split_scope(nodeid)
        return nodeid if Path(path).name in SPREAD else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FilePerWorker:
    """Distribute files instead of marked groups, which xdist 3.8 ignores with pytest 9.2."""
    return FilePerWorker(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """No test depends on a draw nobody seeded, nor on which tests ran before it: fixtures draw after this, too."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  what libraries draw from it, not we
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_lists(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Lists of output folders stay out of the home of whoever runs the tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture(autouse=True)
def ramps_pass_for_crops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests turn ramps and noise, which no detector takes for a face; those of the check itself look."""
    if request.path.name != "test_frame.py":
        monkeypatch.setattr("latentrot.faces.frame_check.check_crop_frame", lambda *_: None)


CHROMIUM = Path("/usr/bin/chromium")
#: as root, without a screen, and without asking other hosts for anything
BROWSER_OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    """A real browser, to drive the pages with."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="driving a page needs playwright")
    if not CHROMIUM.is_file():
        pytest.skip(f"no browser at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=BROWSER_OPTIONS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def port() -> int:
    """A port of this computer that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The photographs for development beside the repository; tests that need them are skipped without."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no photographs at {folder}")
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one ordinary tiny model."""
    return save_pixel_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def plain_model(model_folder: Path) -> LatentModel:
    """That model."""
    return load_model(model_folder, "cpu")


@pytest.fixture(scope="module")
def model(plain_model: LatentModel) -> LatentModel:
    """That model again, under the name that modules with models of their own give those."""
    return plain_model


@pytest.fixture(scope="module")
def frontal():
    """The planted head, facing the camera."""
    from planted import planted  # noqa: PLC0415  geometry, which few tests need

    return planted()


@pytest.fixture(scope="module")
def head(frontal):
    """The head that is built from it."""
    from planted import head_of  # noqa: PLC0415

    return head_of(frontal)
