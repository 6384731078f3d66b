"""The labels that come with the checkout agree with each other."""

from pathlib import Path

import pandas as pd
import pytest

from latentrot.data.celeba import FaceFolder
from latentrot.faces.light.agreement import agreed, disputed, votes
from latentrot.faces.light.answers import read_answers, standing
from latentrot.faces.light.tables import read_light_labels
from latentrot.faces.network import LIGHTS

LABELS = Path(__file__).parents[1] / "data_labels"
CELEBA = Path(__file__).parents[2] / "shared" / "data" / "celeba"


def test_one_light_and_one_pose_for_every_image():
    light = read_light_labels(LABELS / "celeba_light.csv")
    pose = pd.read_csv(LABELS / "celeba_pose.csv", index_col="image_id")
    assert list(light.index) == list(pose.index)
    assert light.index.is_unique
    assert set(light["light"]) == set(LIGHTS)
    assert pose[["yaw_deg", "pitch_deg", "roll_deg"]].abs().max().max() < 120
    if CELEBA.is_dir():
        assert list(light.index) == FaceFolder(CELEBA).ids


def test_hand_labels_are_those_both_passes_agree_on():
    said = votes(standing(read_answers(LABELS / "light_answers.csv")))
    table = pd.read_csv(LABELS / "celeba_light.csv", index_col="image_id")
    by_hand = table.loc[table["source"] == "hand", "light"]
    assert by_hand.to_dict() == agreed(said).to_dict()
    assert not set(disputed(said).index) & set(by_hand.index)
    assert said.count().min() >= 300


@pytest.mark.shared_data
@pytest.mark.skipif(not CELEBA.is_dir(), reason="../shared/data/celeba is absent")
def test_the_reference_poses_are_near():
    pose = pd.read_csv(LABELS / "celeba_pose.csv", index_col="image_id")
    reference = pd.read_csv(CELEBA / "pose.csv", index_col="image_id").reindex(pose.index)
    error = (pose["yaw_deg"] - reference["yaw_deg"]).abs()
    assert error.mean() < 3
    assert pose["yaw_deg"].corr(reference["yaw_deg"]) > 0.98  # and the sign is the same
