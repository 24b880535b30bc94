"""Reads a bag as observations, and encodes observations into features: what `encode` does, for use from Python."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fused_encoder_ros.content.features import FeatureWatch
from fused_encoder_ros.offline.ahead import ahead
from fused_encoder_ros.offline.bag import Bag
from fused_encoder_ros.pipeline.data import JOINTS, Drop, Feature, Observation, Outcome, Reason, Reject
from fused_encoder_ros.pipeline.pipeline import Pipeline
from fused_encoder_ros.settings import Settings

if TYPE_CHECKING:  # torch takes seconds to import
    from fused_encoder_ros.model import Model

Progress = Callable[[int, int], None]

_Message = tuple[str, Any]

_GROUPS_AHEAD = 4
_MOST_IN_A_GROUP = 256
_IMAGES_AHEAD = 8
"""Images of 25 MB a piece must fit."""

_MESSAGES_AHEAD = 4096
"""Of joints, where no image comes for long."""

_DECODERS = 4


def read_observations(bag: str | os.PathLike[str], settings: Settings) -> Iterator[Outcome]:
    """Read a bag as the observations that the node would make of it.

    Args:
        bag: a ROS 1 bag file, a rosbag2 folder, or a single .mcap or .db3 file.
        settings: the parameters of the node.

    Yields:
        One `Observation` or one `Drop` for each frame of the anchor camera, in the order in which they are decided.
        Observations are in the order of the anchor's stamps, unless its clock jumps. Between them comes a `Reject` for each
        other message that could not be used.

    Raises:
        BagError: if the bag cannot be read, lacks a topic, or is cut off.

    Example:
        >>> outcomes = list(read_observations('my_bag', Settings.from_values({})))
        >>> observations = [outcome for outcome in outcomes if isinstance(outcome, Observation)]
        >>> observations[0].images.shape
        (84, 84, 9)
    """
    with Bag(Path(bag), settings.topics) as opened:
        yield from outcomes_of(opened, settings.pipeline())


def outcomes_of(bag: Bag, pipeline: Pipeline, progress: Progress = lambda done, total: None) -> Generator[Outcome, None, None]:
    """Push every message of a bag through a pipeline, reading and decoding ahead in threads; raises as `Bag.messages`."""
    total = bag.message_count
    with closing(ahead(_groups(bag), _GROUPS_AHEAD)) as groups, closing(_decoded(groups, pipeline)) as items:
        for number, (source, item) in enumerate(items, 1):
            yield from pipeline.push_decoded(source, item)
            progress(number, total)
    yield from pipeline.finish()


def _groups(bag: Bag) -> Generator[list[_Message], None, None]:
    """The messages in order, a handful at a time: passing each from thread to thread would cost more than reading it."""
    group: list[_Message] = []
    for source, message, _recorded_ns in bag.messages():
        group.append((source, message))
        if source != JOINTS or len(group) == _MOST_IN_A_GROUP:
            yield group
            group = []
    yield group


def _decoded(groups: Iterable[list[_Message]], pipeline: Pipeline) -> Generator[_Message, None, None]:
    """The same messages in the same order, those of cameras decoded in threads."""
    threads = min(_DECODERS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(threads, thread_name_prefix='decode') as pool:
        begun: deque[tuple[str, Any]] = deque()
        images = 0
        for source, message in chain.from_iterable(groups):
            if source == JOINTS:
                begun.append((source, message))
            else:
                begun.append((source, pool.submit(pipeline.decoded, message)))
                images += 1
            while images > _IMAGES_AHEAD or len(begun) > _MESSAGES_AHEAD:
                source, item = begun.popleft()
                images -= source != JOINTS
                yield source, _result(item)
        while begun:
            source, item = begun.popleft()
            yield source, _result(item)


def _result(item: Any) -> Any:
    return item.result() if isinstance(item, Future) else item


def encode_observations(
    outcomes: Iterable[Outcome], model: Model, batch_size: int = 1, watch: FeatureWatch | None = None
) -> Iterator[Feature | Drop | Reject]:
    """Encode observations into features.

    With a batch size of 1 the features equal the node's bit for bit, on the same machine, device, engine and number of
    threads. Larger batches are faster, and their features differ in the last bits.

    Args:
        outcomes: what `read_observations` yields.
        model: what `load_model` returns.
        batch_size: number of observations that are encoded at once.
        watch: measures each feature against the training data; see `Feature.distance`.

    Yields:
        A `Feature` in the place of each observation, or a `Drop` if the feature holds NaN or infinity. Drops and rejects are
        passed on unchanged.

    Raises:
        EngineError: if the engine fails.
    """
    waiting: list[Outcome] = []
    observations: list[Observation] = []
    for outcome in outcomes:
        waiting.append(outcome)
        if isinstance(outcome, Observation):
            observations.append(outcome)
        if len(observations) in (0, batch_size):
            yield from _encoded(waiting, observations, model, watch)
            waiting, observations = [], []
    yield from _encoded(waiting, observations, model, watch)


def _encoded(
    waiting: list[Outcome], observations: list[Observation], model: Model, watch: FeatureWatch | None
) -> Iterator[Feature | Drop | Reject]:
    if observations:
        images, joints = (np.stack([getattr(o, name) for o in observations]) for name in ('images', 'joints'))
        rows = iter(model.encode(images, joints))
    for outcome in waiting:
        if not isinstance(outcome, Observation):
            yield outcome
        elif np.isfinite(row := next(rows)).all():
            yield Feature(row, outcome, watch.see(row) if watch else None)
        else:
            yield Drop(outcome.stamp_ns, '', Reason.ENCODER_FAULT, 'the feature holds NaN or infinity')
