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
from fused_encoder_ros.pipeline.data import Drop, Reject
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
) -> dict[str, Any]:
    """Write `out_dir/<name>.hdf5`; returns counts and figures as JSON has them.

    Every set is a step, or counted as unused with its reason; every other anchor frame is a drop.

    Raises:
        BagError: when the bag cannot be read, or lacks a topic, that of the actions too; nothing is written then.
        OutputError: when the output exists or cannot be written.
    """
    start = time.perf_counter()
    steps, unused, drops, details = 0, Counter[str](), Counter[str](), dict[str, str]()
    first_ns = last_ns = 0
    pipeline = settings.pipeline()
    with ExitStack() as stack:
        bag = stack.enter_context(Bag(path, settings.topics))
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
                steps += 1
                last_ns = part.observation.stamp_ns
                first_ns = first_ns or last_ns
            elif isinstance(part, Unused):
                unused[part.reason] += 1
            elif isinstance(part, Drop):
                drops[part.key] += 1
                details[part.key] = part.detail
            elif isinstance(part, Reject):
                details[f'{part.stream}: {part.reason}'] = part.detail
    span_s = (last_ns - first_ns) / 1e9
    return {
        'messages': dict(pipeline.counts.messages),
        'anchors': pipeline.counts.anchors,
        'sets': pipeline.counts.sets,
        'steps': steps,
        'unused': dict(unused),
        'drops': dict(sorted(drops.items())),
        'rejects': dict(sorted(pipeline.counts.rejects.items())),
        'details': details,
        'span_s': span_s,
        'rate_hz': (steps - 1) / span_s if span_s else None,
        'elapsed_s': time.perf_counter() - start,
    }


def _metadata(path: Path, settings: Settings, options: EpisodeOptions, commands: Commands | None) -> dict[str, Any]:
    return {
        'version': __version__,
        'bag': path.resolve().name,
        **settings.provenance(),
        'episode': asdict(options),
        'action_names': list(commands.names if commands else settings.spec.joint_names),
    }
