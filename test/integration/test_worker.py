"""An engine that fails while the robot runs: what is lost, what is said, and that it comes back."""

from __future__ import annotations

import time

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
    assert gaps[5:].max() <= 30.11 and 'cannot be rebuilt: CUDA out of memory' in healing.failure
    monkeypatch.setattr(model, '_build', lambda: working)
    clock.now += 30
    healing.encode(IMAGES, JOINTS)
    assert healing.failure == '' and healing.rebuilds == 1


def test_the_worker_survives_what_fails_around_it(model: Model, capfd: pytest.CaptureFixture[str]) -> None:
    """An engine that fails or gives NaN, a publisher that refuses, a set of a wrong shape: each is accounted for."""
    published: list[int] = []
    faults: list[tuple[int, str]] = []

    def publish(feature: Feature, _timing: object) -> None:
        if feature.stamp_ns == 3:
            raise OSError('publisher is gone')
        published.append(feature.stamp_ns)

    def fault(observation: Observation, detail: str) -> None:
        faults.append((observation.stamp_ns, detail))
        raise OSError('and so is the log')

    def fail() -> None:
        raise RuntimeError('CUDA error: device-side assert triggered')

    model.engine._single._run = fail  # until the engine is built anew
    worker = EncodeWorker(model, publish, fault)
    for stamp in range(1, 7):
        images = np.zeros((84, 84, 3 if stamp == 6 else 9), np.uint8)
        positions = np.full(16, np.nan if stamp == 2 else 0.5)
        worker.post(Observation(stamp, images, positions.astype(np.float32), positions, {}))
        end = time.monotonic() + 60
        while len(published) + len(faults) < stamp:
            assert time.monotonic() < end, (published, faults)
            time.sleep(0.01)
    assert worker.stop() is None
    assert published == [4, 5]
    assert [stamp for stamp, _ in faults] == [1, 2, 3, 6]
    said = (
        'the engine openvino failed: RuntimeError',
        'NaN or infinity',
        'could not be published: OSError',
        'images are of shape (1, 84, 84, 3); the encoder needs',
    )
    for (_, detail), says in zip(faults, said):
        assert says in detail
    assert 'this could not be published' in capfd.readouterr().err
