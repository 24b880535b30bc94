"""A bag to an episode for training: the observations that the node would make, with actions."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from fused_encoder_ros import __version__
from fused_encoder_ros.errors import BagError
from fused_encoder_ros.offline.actions import Commands
from fused_encoder_ros.offline.bag import Bag
from fused_encoder_ros.offline.encode import model_metadata
from fused_encoder_ros.offline.episodes import (
    Episode,
    Step,
    Unused,
    at_rate,
    in_runs,
    whole_rate,
    with_commands,
    with_features,
    with_later_joints,
)
from fused_encoder_ros.offline.files import completed
from fused_encoder_ros.offline.formats.hdf5 import Hdf5Episode
from fused_encoder_ros.offline.formats.lerobot import LeRobotEpisode
from fused_encoder_ros.offline.formats.mcap import BagEpisode
from fused_encoder_ros.offline.formats.parquet import ParquetEpisode
from fused_encoder_ros.offline.observations import Progress, outcomes_of
from fused_encoder_ros.offline.tally import Tally
from fused_encoder_ros.pipeline.data import Observation
from fused_encoder_ros.settings import Settings

if TYPE_CHECKING:  # torch takes seconds to import
    from fused_encoder_ros.model import Model


class Sink(Protocol):
    """Writes an episode. Use it as a context: leaving it well makes the result complete."""

    def __enter__(self) -> Sink: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def write(self, step: Step) -> None:
        """Append a step."""


@dataclass(frozen=True)
class Format:
    """How episodes are written.

    Attributes:
        result: name of the result, with {} for the bag's.
        sink: what writes one to a path.
        package, extra: the package that it needs, and the extra that brings it; '' for none.
        has_runs: whether a gap between steps begins a new episode, for which the rate must be known.
    """

    result: str
    sink: Callable[[Path, Episode], Sink]
    package: str = ''
    extra: str = ''
    has_runs: bool = False


FORMATS = {
    'hdf5': Format('{}.hdf5', Hdf5Episode, 'h5py', 'hdf5'),
    'hdf5-aloha': Format('{}.hdf5', functools.partial(Hdf5Episode, aloha=True), 'h5py', 'hdf5'),
    'lerobot': Format('bags/{}', LeRobotEpisode, 'lerobot', 'lerobot', has_runs=True),
    'parquet': Format('{}.parquet', ParquetEpisode),
    'mcap': Format('{}_episode', BagEpisode),
}

RESOLUTIONS = ('encoder', 'full')


@dataclass(frozen=True)
class EpisodeOptions:
    """What an episode is made of.

    Attributes:
        to: one of `FORMATS`.
        resolution: 'encoder' for images at the encoder's size, 'full' for images as they came.
        features: also encode each step.
        action_topic: where actions come from; '' takes the joint positions of a later set.
        action_names: the joints of an action, in its order; empty takes that of the first command.
        action_hold_s: for how long a command counts.
        action_later: of how many sets later the joint positions are the action, without a topic.
        rate_hz: steps a second; None takes every set.
        task: what the robot does, in words.
    """

    to: str = 'hdf5'
    resolution: str = 'encoder'
    features: bool = False
    action_topic: str = ''
    action_names: tuple[str, ...] = ()
    action_hold_s: float = 0.5
    action_later: int = 1
    rate_hz: float | None = None
    task: str = ''


def export_episode(
    path: Path,
    result: Path,
    settings: Settings,
    options: EpisodeOptions,
    model: Model | None = None,
    *,
    force: bool = False,
    progress: Progress = lambda done, total: None,
) -> tuple[dict[str, Any], Observation | None]:
    """Write a bag's episode to `result`; returns counts and figures as JSON has them, and a step from the middle.

    Every set is a step, or counted as unused with its reason; every other anchor frame is a drop. The model makes the
    features, where the options ask for them.

    Raises:
        BagError: when the bag cannot be read, or lacks a topic, that of the actions too, or its images do not stay of one
            size; nothing is written then.
        OutputError: when the output exists or cannot be written.
    """
    start = time.perf_counter()
    unused = Counter[str]()
    sizes: dict[str, tuple[int, ...]] = {}
    pipeline = settings.pipeline(keep_full_images=options.resolution == 'full')
    kind = FORMATS[options.to]
    with ExitStack() as stack:
        bag = stack.enter_context(Bag(path, settings.topics))
        tally = Tally(bag, pipeline)
        commands = None
        if options.action_topic:
            commands = Commands(path, options.action_topic, options.action_names, options.action_hold_s)
        files = stack.enter_context(completed({'episode': result}, force))
        outcomes: Any = stack.enter_context(closing(outcomes_of(bag, pipeline, progress)))
        rate_hz = options.rate_hz
        if kind.has_runs and rate_hz is None:
            rate_hz, outcomes = whole_rate(path, outcomes)
        chosen = at_rate(outcomes, options.rate_hz)
        parts = with_commands(chosen, commands) if commands else with_later_joints(chosen, options.action_later, rate_hz)
        if model is not None:
            parts = with_features(parts, model)
        if kind.has_runs and rate_hz is not None:
            parts = in_runs(parts, rate_hz)
        episode = _episode(path, settings, options, model, commands, rate_hz)
        sink = stack.enter_context(kind.sink(files['episode'], episode))
        for part in parts:
            if isinstance(part, Step):
                _check_sizes(path, part, sizes)
                sink.write(part)
                tally.take(part.observation)
            elif isinstance(part, Unused):
                unused[part.reason] += 1
            else:
                tally.take(part)
    figures = tally.figures()
    summary = {
        **figures,
        'sets': pipeline.counts.sets,
        'steps': figures['sets'],
        'unused': dict(unused),
        'elapsed_s': time.perf_counter() - start,
    }
    return summary, tally.middle


def _check_sizes(path: Path, step: Step, sizes: dict[str, tuple[int, ...]]) -> None:
    for camera, image in step.observation.camera_images.items():
        if sizes.setdefault(camera, image.shape) != image.shape:
            (before, now) = (f'{shape[1]}×{shape[0]}' for shape in (sizes[camera], image.shape))
            raise BagError(
                f'bag {path}: images of {camera} change from {before} to {now} at {step.observation.stamp_ns} ns, but an '
                'episode has only one size; use --resolution encoder'
            )


def _episode(
    path: Path,
    settings: Settings,
    options: EpisodeOptions,
    model: Model | None,
    commands: Commands | None,
    rate_hz: float | None,
) -> Episode:
    action_names = commands.names if commands else settings.spec.joint_names
    metadata = {
        'version': __version__,
        'bag': path.resolve().name,
        **settings.provenance(),
        'episode': asdict(options),
        'action_names': list(action_names),
        **(model_metadata(model) if model else {}),
    }
    return Episode(
        spec=settings.spec,
        topics=settings.topics,
        action_names=action_names,
        rate_hz=None if rate_hz is None else round(rate_hz),
        task=options.task,
        model_hash=model.hash if model else '',
        metadata=metadata,
    )
