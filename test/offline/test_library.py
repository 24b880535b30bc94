"""The package from Python: public names, and bags as observations and features."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import fused_encoder_ros
from fused_encoder_ros import Drop, Feature, Observation, Reject, Settings, encode_observations, load_model, read_observations
from fused_encoder_ros.errors import BagError
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.synthetic import Rig

VALUES = {'engine': 'packed', 'device': 'cpu', 'tolerance_ms': 8.0}


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('library') / 'rig'
    write_rig_bag(path, Rig(seed=4, width=64, height=48, jitter_ms=4.0), 2.0)
    return path


def test_importing_it_takes_nothing_heavy_along() -> None:
    code = """
import sys
import fused_encoder_ros
print({name for name in ('torch', 'rclpy', 'cv2', 'numpy', 'rosbags', 'pyarrow') if name in sys.modules} or '{}')
fused_encoder_ros.Settings, fused_encoder_ros.read_observations
print({name for name in ('torch', 'rclpy') if name in sys.modules} or '{}')
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ['{}', '{}'], result.stdout


def test_every_public_name_is_there() -> None:
    for name in fused_encoder_ros.__all__:
        assert getattr(fused_encoder_ros, name).__doc__, name
    with pytest.raises(AttributeError, match="module 'fused_encoder_ros' has no attribute 'Encoder'"):
        _ = fused_encoder_ros.Encoder


def test_every_anchor_frame_is_an_observation_or_a_drop(bag: Path) -> None:
    outcomes = list(read_observations(bag, Settings.from_values(VALUES)))
    assert {type(outcome) for outcome in outcomes} == {Observation, Drop}
    stamps = [outcome.stamp_ns for outcome in outcomes]
    assert len(stamps) == 60 and stamps == sorted(set(stamps))
    first = next(outcome for outcome in outcomes if isinstance(outcome, Observation))
    assert (first.images.shape, first.images.dtype, first.joints.dtype) == ((84, 84, 9), np.uint8, np.float32)
    assert abs(first.skew_ns['left_wrist']) <= 8_000_000


@pytest.mark.parametrize('batch_size', [1, 7])
def test_features_are_those_that_encode_writes(bag: Path, tmp_path: Path, batch_size: int) -> None:
    """Drops keep their places, whatever the size of a batch."""
    settings = Settings.from_values(VALUES)
    model = load_model(settings.model, settings.spec)
    fused_encoder_ros.encode_bag(bag, tmp_path, settings, model, batch_size=batch_size)
    written = pq.read_table(tmp_path / 'rig.parquet').to_pydict()
    results = list(encode_observations(read_observations(bag, settings), model, batch_size))
    assert [result.stamp_ns for result in results] == [o.stamp_ns for o in read_observations(bag, settings)]
    features = [result for result in results if isinstance(result, Feature)]
    assert [feature.stamp_ns for feature in features] == written['stamp_ns']
    np.testing.assert_array_equal([feature.values for feature in features], np.array(written['feature'], np.float32))


def test_a_feature_that_is_no_number_becomes_a_drop(bag: Path) -> None:
    settings = Settings.from_values(VALUES)
    model = load_model(settings.model, settings.spec)
    whole = [o for o in read_observations(bag, settings) if isinstance(o, Observation)][:3]
    broken = Observation(
        whole[1].stamp_ns, whole[1].images, np.full(16, np.nan, np.float32), whole[1].joint_positions, whole[1].stamps_ns
    )
    results = list(encode_observations([whole[0], broken, whole[2]], model, batch_size=3))
    assert [type(result) for result in results] == [Feature, Drop, Feature]
    assert not isinstance(results[1], (Feature, Reject)) and results[1].key == 'encoder_fault'


def test_a_bag_without_one_of_the_cameras_is_named(bag: Path) -> None:
    settings = Settings.from_values({'cameras': ['left_wrist', 'front']})
    with pytest.raises(BagError, match=r'no topic /front/image for front; the bag has .*/global/image'):
        list(read_observations(bag, settings))
