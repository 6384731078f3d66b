"""The script for a GPU, rehearsed on the processor with a tiny network."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latentrot.diffusion.load import load_model
from latentrot.training.backbone import TrainConfig

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "on_gpu.py"
if not SCRIPT.is_file():
    pytest.skip("an installed package has no benchmarks", allow_module_level=True)
SPEC = importlib.util.spec_from_file_location("on_gpu", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
on_gpu = importlib.util.module_from_spec(SPEC)
sys.modules["on_gpu"] = on_gpu  # dataclasses look their module up
SPEC.loader.exec_module(on_gpu)

TINY = TrainConfig(batch_size=4, channels=(16, 32), small_steps=0, ema=0.5)


def smooth(n: int) -> np.ndarray:
    """(n, 64, 64, 3) uint8 ramps, each of another slope."""
    ramp = np.linspace(40, 215, 64)
    return np.stack([np.broadcast_to((ramp * (0.5 + i / n / 2))[:, None, None], (64, 64, 3)) for i in range(n)]).astype(
        np.uint8
    )


def test_packed_crops_come_back(tmp_path):
    """In order, without those that fill the last row; no crop leaks into its neighbours."""
    images = smooth(5)
    images[::2] = 255 - images[::2]
    on_gpu.mosaic(images).save(tmp_path / "x.jpg", quality=on_gpu.QUALITY, subsampling=0)
    back = on_gpu.crops_of(tmp_path / "x.jpg")
    assert back.shape == (5, 3, 64, 64)
    assert np.abs(back.permute(0, 2, 3, 1).numpy().astype(int) - images).max() <= 4


def test_a_run_writes_pieces_that_make_a_model(tmp_path, monkeypatch):
    """As many as the limit asks for; the model is loaded as any other."""
    monkeypatch.setattr(on_gpu, "PIECE", 100_000)
    monkeypatch.setattr(on_gpu, "TrainConfig", lambda **kw: replace(TINY, **kw))
    crops = torch.from_numpy(smooth(8)).permute(0, 3, 1, 2).contiguous()
    on_gpu.train(TINY, crops, crops[:2], tmp_path, 600.0, "cpu", 2)
    assert len(list(tmp_path.glob("weights.*"))) > 1
    assert (tmp_path / "log.csv").read_text().splitlines()[0].startswith("seconds,steps,samples,loss")
    on_gpu.Join(tmp_path, tmp_path / "model").run()
    joined = load_model(str(tmp_path / "model"), "cpu")
    assert joined.resolution == 64
    assert joined.prediction_type == "v_prediction"


@pytest.mark.parametrize(("share", "rate"), [(0.0, 0.05), (0.5, 1.0), (0.85, 0.5), (1.0, 0.0)])
def test_the_rate_rises_and_falls_with_the_time(share, rate):
    assert on_gpu.rate_at(share) == pytest.approx(rate, abs=0.01)
