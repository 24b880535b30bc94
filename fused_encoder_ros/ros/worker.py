"""The thread that encodes, and the one-slot mailbox through which observations reach it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.errors import EngineError
from fused_encoder_ros.pipeline.data import Feature, Observation

if TYPE_CHECKING:
    from fused_encoder_ros.model import Model


@dataclass(frozen=True, slots=True)
class Timing:
    """When a set reached the worker's stages, `time.monotonic_ns`."""

    posted_ns: int
    taken_ns: int
    encoded_ns: int


class Mailbox:
    """Holds one observation; a newer one takes its place, so no queue can grow."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._slot: tuple[Observation, int] | None = None
        self._closed = False

    def post(self, observation: Observation) -> Observation | None:
        """Put an observation in; returns the one whose place it took."""
        with self._condition:
            loser, self._slot = self._slot, (observation, time.monotonic_ns())
            self._condition.notify()
        return loser[0] if loser else None

    def take(self) -> tuple[Observation, int] | None:
        """Wait for an observation and when it was posted; None once closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._slot is not None)
            if self._closed:
                return None
            item, self._slot = self._slot, None
        return item

    def close(self) -> Observation | None:
        """Let the taker go; returns the observation that was still inside."""
        with self._condition:
            self._closed = True
            loser, self._slot = self._slot, None
            self._condition.notify_all()
        return loser[0] if loser else None


class SelfHealingModel:
    """A model whose engine is built anew when it has failed: out of GPU memory, a lost device, a driver's fault.

    The set that the engine fails on is lost. Before the next set the engine is built anew; when that does not help,
    again after 1, 2, 4, ... and at most 30 s, and the sets until then are lost too.

    Attributes:
        failure: why the engine does not work now; empty while it does.
        rebuilds: how often it was built anew.
    """

    _FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0

    def __init__(self, model: Model, clock: Callable[[], float] = time.monotonic) -> None:
        self.failure = ''
        self.rebuilds = 0
        self._model = model
        self._clock = clock
        self._wait_s = 0.0
        self._retry_at_s = 0.0

    def encode(self, images: NDArray[np.uint8], joints: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `Model.encode`. Raises EngineError."""
        if self.failure:
            self._rebuild()
        try:
            values = self._model.encode(images, joints)
        except EngineError as error:
            self._failed(error)
            raise
        self.failure, self._wait_s = '', 0.0
        return values

    def _rebuild(self) -> None:
        left_s = self._retry_at_s - self._clock()
        if left_s > 0:
            raise EngineError(f'{self.failure}; next try in {left_s:.1f} s')
        try:
            self._model.rebuild()
        except EngineError as error:
            self._failed(error)
            raise
        self.rebuilds += 1

    def _failed(self, error: EngineError) -> None:
        self.failure = str(error)
        self._retry_at_s = self._clock() + self._wait_s
        self._wait_s = min(max(2 * self._wait_s, self._FIRST_WAIT_S), self._LONGEST_WAIT_S)


class EncodeWorker:
    """Encodes what is posted, one set at a time, on its own thread.

    Args:
        model: the encoder.
        on_feature: called on the worker's thread with each feature.
        on_fault: called on the worker's thread with a set that gave no feature, and why.

    Attributes:
        model: the encoder, with what is wrong with it.
    """

    def __init__(
        self,
        model: Model,
        on_feature: Callable[[Feature, Timing], None],
        on_fault: Callable[[Observation, str], None],
    ) -> None:
        self.model = SelfHealingModel(model)
        self._on_feature = on_feature
        self._on_fault = on_fault
        self._mailbox = Mailbox()
        self._thread = threading.Thread(target=self._run, name='encode', daemon=True)
        self._thread.start()

    def post(self, observation: Observation) -> Observation | None:
        """Hand over an observation; returns the one that it superseded."""
        return self._mailbox.post(observation)

    def stop(self) -> Observation | None:
        """End the thread after the set it is at; returns the observation that was left behind."""
        left = self._mailbox.close()
        self._thread.join()
        return left

    def _fault(self, observation: Observation, detail: str) -> None:
        try:
            self._on_fault(observation, detail)
        except Exception as error:
            # Where even that cannot be told, the log of last resort.
            print(f'fused_encoder: {detail}; this could not be published: {error}', file=sys.stderr)

    def _run(self) -> None:
        while (item := self._mailbox.take()) is not None:
            observation, posted_ns = item
            taken_ns = time.monotonic_ns()
            try:
                values = self.model.encode(observation.images[np.newaxis], observation.joints[np.newaxis])[0]
            except Exception as error:
                # Whatever it is, the thread must live on: the next set may succeed.
                kind = '' if isinstance(error, EngineError) else f'{type(error).__name__}: '
                self._fault(observation, f'{kind}{error}')
                continue
            if not np.isfinite(values).all():
                self._fault(observation, 'the feature holds NaN or infinity')
                continue
            try:
                self._on_feature(Feature(values, observation), Timing(posted_ns, taken_ns, time.monotonic_ns()))
            except Exception as error:
                self._fault(observation, f'the feature could not be published: {type(error).__name__}: {error}')
