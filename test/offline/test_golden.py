"""Three cameras give what they gave before there could be others: files written then are held against the code of now."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fused_encoder_ros.model import load_model
from fused_encoder_ros.offline.bag import Bag
from fused_encoder_ros.offline.encode import encode_bag
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.pipeline.data import Observation
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.synthetic import Rig

DATA = Path(__file__).parent / 'data'
RENAMED = {'left_': 'left_wrist_', 'right_': 'right_wrist_', 'joints_': 'joint_states_'}
IMAGES = 'f7d0d1a0f86620517963b5f98a49a62c57b0f389a33371e73c2331ccdecd3dfb'
"""SHA-256 of the images of all sets."""


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('golden') / 'rig'
    write_rig_bag(path, Rig(seed=5, width=160, height=120, jitter_ms=2.0), 2.0)
    return path


def now(column: str) -> str:
    """What a column is called today."""
    prefix = next((old for old in RENAMED if column.startswith(old)), '')
    return RENAMED.get(prefix, '') + column.removeprefix(prefix)


@pytest.mark.parametrize('design', ['single', 'three_stream'])
def test_features_are_what_they_were(bag: Path, tmp_path: Path, design: str) -> None:
    """What is decided by stamps is the same to the bit; features are so on one machine, and here within rounding."""
    values = {'design': design, 'seed': 7, 'engine': 'eager', 'device': 'cpu', 'match': 'nearest'}
    settings = Settings.from_values(values)
    encode_bag(bag, tmp_path, settings, load_model(settings.model, settings.spec))
    golden, written = pq.read_table(DATA / f'golden_{design}.parquet'), pq.read_table(tmp_path / 'rig.parquet')
    assert [now(name) for name in golden.column_names] == written.column_names
    for name in golden.column_names:
        then, today = golden[name].to_pylist(), written[now(name)].to_pylist()
        if name == 'feature':
            np.testing.assert_allclose(today, then, rtol=0, atol=1e-5 * np.abs(then).max())
        else:
            assert today == then, name
    assert golden.schema.metadata[b'fused_encoder.model_hash'] == written.schema.metadata[b'fused_encoder.model_hash']


def test_images_are_what_they_were(bag: Path) -> None:
    settings, digest = Settings.from_values({'match': 'nearest'}), hashlib.sha256()
    pipeline = settings.pipeline()
    with Bag(bag, settings.topics) as messages:
        for source, message, _ in messages.messages():
            for outcome in pipeline.push(source, message):
                if isinstance(outcome, Observation):
                    digest.update(outcome.images.tobytes())
    assert digest.hexdigest() == IMAGES
