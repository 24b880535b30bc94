"""An engine that fails while the robot runs: what is lost, what is said, and that it comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from fused_encoder_ros.errors import EngineError
from fused_encoder_ros.model import Model, ModelOptions, load_model
from fused_encoder_ros.pipeline.data import Feature, Observation
from fused_encoder_ros.ros.worker import EncodeWorker, SelfHealingModel
from fused_encoder_ros.spec import ObservationSpec

SPEC = ObservationSpec()
IMAGES, JOINTS = np.zeros((1, 84, 84, 9), np.uint8), np.zeros((1, 16), np.float32)


class Broken:
    """Stands for an engine whose device has gone: nothing here can take a real one away."""

    def __init__(self, engine: object) -> None:
        self.name, self.precision, self.device = engine.name, engine.precision, engine.device  # type: ignore[attr-defined]

    def encode(self, images: np.ndarray, joints: np.ndarray) -> np.ndarray:
        raise RuntimeError('CUDA error: device-side assert triggered')


@pytest.fixture
def model() -> Model:
    return load_model(ModelOptions(device='cpu'), SPEC)


class Seconds:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_engine_is_built_anew_before_the_next_set(model: Model) -> None:
    expected = model.encode(IMAGES, JOINTS)
    healing = SelfHealingModel(model)
    model.engine = Broken(model.engine)
    with pytest.raises(EngineError, match=r'the engine openvino failed: RuntimeError: CUDA error'):
        healing.encode(IMAGES, JOINTS)
    assert 'CUDA error' in healing.failure
    np.testing.assert_array_equal(healing.encode(IMAGES, JOINTS), expected)
    assert healing.failure == '' and healing.rebuilds == 1


def test_tries_grow_rarer_while_it_cannot_be_built(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Seconds()
    healing = SelfHealingModel(model, clock)
    tries: list[float] = []

    def no_memory() -> None:
        tries.append(clock.now)
        raise RuntimeError('CUDA out of memory')

    working, model.engine = model.engine, Broken(model.engine)
    monkeypatch.setattr(model, '_build', no_memory)
    for tenth in range(1000):
        clock.now = tenth / 10
        with pytest.raises(EngineError):
            healing.encode(IMAGES, JOINTS)
    gaps = np.diff(tries)
    np.testing.assert_allclose(gaps[:5], [1, 2, 4, 8, 16], atol=0.11)
    assert gaps[5:].max() <= 30.11 and 'cannot be built anew: CUDA out of memory' in healing.failure
    monkeypatch.setattr(model, '_build', lambda: working)
    clock.now += 30
    healing.encode(IMAGES, JOINTS)
    assert healing.failure == '' and healing.rebuilds == 1


def observations() -> Iterator[Observation]:
    for stamp in range(1, 4):
        yield Observation(stamp, IMAGES[0], JOINTS[0], np.zeros(16), {'global': stamp})


def test_the_worker_lives_on_and_accounts_for_the_lost_set(model: Model) -> None:
    features: list[Feature] = []
    faults: list[tuple[int, str]] = []
    ended = threading.Semaphore(0)

    def on_feature(feature: Feature, timing: object) -> None:
        features.append(feature)
        ended.release()

    def on_fault(observation: Observation, detail: str) -> None:
        faults.append((observation.stamp_ns, detail))
        ended.release()

    worker = EncodeWorker(model, on_feature, on_fault)
    model.engine = Broken(model.engine)
    for observation in observations():
        worker.post(observation)
        assert ended.acquire(timeout=30)
    worker.stop()
    assert [stamp for stamp, _ in faults] == [1] and 'CUDA error' in faults[0][1]
    assert [feature.stamp_ns for feature in features] == [2, 3] and worker.model.rebuilds == 1
