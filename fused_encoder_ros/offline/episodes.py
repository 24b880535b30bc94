"""A bag as an episode for training: observations with actions, at a rate."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.offline.actions import Commands
from fused_encoder_ros.pipeline.data import Drop, Observation, Outcome, Reject


class Step(NamedTuple):
    """One step of an episode: an observation, and the action float64 [A] that goes with it."""

    observation: Observation
    action: NDArray[np.float64]


@dataclass(frozen=True)
class Unused:
    """A set that is no step, and why: 'rate' or 'no_action'."""

    stamp_ns: int
    reason: str


Part = Step | Unused | Drop | Reject


def at_rate(outcomes: Iterable[Outcome], rate_hz: float | None) -> Iterator[Outcome | Unused]:
    """Of the sets that belong to one tick the nearest, with `rate_hz` ticks a second from the first set on.

    The others become `Unused`. A tick that no set belongs to has no step.
    """
    if rate_hz is None:
        yield from outcomes
        return
    first_ns: int | None = None
    tick, nearest, distance = 0, None, 0.0
    for outcome in outcomes:
        if not isinstance(outcome, Observation):
            yield outcome
            continue
        first_ns = outcome.stamp_ns if first_ns is None else first_ns
        at = (outcome.stamp_ns - first_ns) / 1e9 * rate_hz
        if nearest is not None and round(at) != tick:
            yield nearest
            nearest = None
        if nearest is None or abs(at - round(at)) < distance:
            if nearest is not None:
                yield Unused(nearest.stamp_ns, 'rate')
            tick, nearest, distance = round(at), outcome, abs(at - round(at))
        else:
            yield Unused(outcome.stamp_ns, 'rate')
    if nearest is not None:
        yield nearest


def with_commands(outcomes: Iterable[Outcome | Unused], commands: Commands) -> Iterator[Part]:
    """Each set with the command in force at its stamp."""
    for outcome in outcomes:
        if not isinstance(outcome, Observation):
            yield outcome
        elif (action := commands.at(outcome.stamp_ns)) is None:
            yield Unused(outcome.stamp_ns, 'no_action')
        else:
            yield Step(outcome, action)


def with_later_joints(outcomes: Iterable[Outcome | Unused], steps: int) -> Iterator[Part]:
    """Each set with the joint positions of so many sets later; the last ones have none."""
    waiting: deque[Observation] = deque()
    for outcome in outcomes:
        if not isinstance(outcome, Observation):
            yield outcome
            continue
        waiting.append(outcome)
        if len(waiting) > steps:
            yield Step(waiting.popleft(), outcome.joint_positions)
    for observation in waiting:
        yield Unused(observation.stamp_ns, 'no_action')
