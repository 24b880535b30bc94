"""A bag to an episode for training: the observations that the node would make, with actions."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fused_encoder_ros import __version__
from fused_encoder_ros.offline.actions import Commands
from fused_encoder_ros.offline.bag import Bag
from fused_encoder_ros.offline.episodes import Step, Unused, at_rate, with_commands, with_later_joints
from fused_encoder_ros.offline.files import completed
from fused_encoder_ros.offline.hdf5 import Hdf5Sink
from fused_encoder_ros.offline.observations import Progress, outcomes_of
from fused_encoder_ros.offline.tally import Tally
from fused_encoder_ros.pipeline.data import Observation
from fused_encoder_ros.settings import Settings


@dataclass(frozen=True)
class EpisodeOptions:
    """What an episode is made of.

    Attributes:
        layout: 'lapo' or 'aloha', see `hdf5.Hdf5Sink`.
        action_topic: where actions come from; '' takes the joint positions of a later set.
        action_names: the joints of an action, in its order; empty takes that of the first command.
        action_hold_s: for how long a command counts.
        action_later: of how many sets later the joint positions are the action, without a topic.
        rate_hz: steps a second; None takes every set.
        task: what the robot does, in words.
    """

    layout: str = 'lapo'
    action_topic: str = ''
    action_names: tuple[str, ...] = ()
    action_hold_s: float = 0.5
    action_later: int = 1
    rate_hz: float | None = None
    task: str = ''


def export_episode(
    path: Path,
    out_dir: Path,
    settings: Settings,
    options: EpisodeOptions,
    *,
    name: str,
    force: bool = False,
    progress: Progress = lambda done, total: None,
) -> tuple[dict[str, Any], Observation | None]:
    """Write `out_dir/<name>.hdf5`; returns counts and figures as JSON has them, and a step from the middle.

    Every set is a step, or counted as unused with its reason; every other anchor frame is a drop.

    Raises:
        BagError: when the bag cannot be read, or lacks a topic, that of the actions too; nothing is written then.
        OutputError: when the output exists or cannot be written.
    """
    start = time.perf_counter()
    unused = Counter[str]()
    pipeline = settings.pipeline()
    with ExitStack() as stack:
        bag = stack.enter_context(Bag(path, settings.topics))
        tally = Tally(bag, pipeline)
        commands = None
        if options.action_topic:
            commands = Commands(path, options.action_topic, options.action_names, options.action_hold_s)
        files = stack.enter_context(completed({'hdf5': out_dir / f'{name}.hdf5'}, force))
        sink = Hdf5Sink(files['hdf5'], settings.spec, options.layout, _metadata(path, settings, options, commands))
        stack.callback(sink.close)
        outcomes = stack.enter_context(closing(outcomes_of(bag, pipeline, progress)))
        chosen = at_rate(outcomes, options.rate_hz)
        for part in with_commands(chosen, commands) if commands else with_later_joints(chosen, options.action_later):
            if isinstance(part, Step):
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


def _metadata(path: Path, settings: Settings, options: EpisodeOptions, commands: Commands | None) -> dict[str, Any]:
    return {
        'version': __version__,
        'bag': path.resolve().name,
        **settings.provenance(),
        'episode': asdict(options),
        'action_names': list(commands.names if commands else settings.spec.joint_names),
    }
