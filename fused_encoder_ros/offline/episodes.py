"""A bag as an episode for training: observations with actions, at a rate."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.errors import BagError
from fused_encoder_ros.offline.actions import Commands
from fused_encoder_ros.pipeline.data import Drop, Observation, Outcome, Reject
from fused_encoder_ros.spec import ObservationSpec

if TYPE_CHECKING:  # torch takes seconds to import
    from fused_encoder_ros.model import Model

_STEPS_LOOKED_AT = 32
_FAR_FROM_WHOLE = 0.02

GAP_STEPS = 1.5
"""Steps that are further apart than so many periods of the rate have a gap between them."""


@dataclass(frozen=True)
class Episode:
    """What holds for a whole episode.

    Attributes:
        spec: of its observations.
        topics: of each source.
        action_names: what an action consists of; empty where nobody has named it.
        rate_hz: steps a second, where the format needs to know.
        task: what the robot does, in words.
        model_hash: of the encoder that made the features; '' where there are none.
        metadata: what travels with it, as JSON has it.
    """

    spec: ObservationSpec
    topics: Mapping[str, tuple[str, ...]]
    action_names: tuple[str, ...]
    rate_hz: int | None
    task: str
    model_hash: str
    metadata: Mapping[str, Any]


class Step(NamedTuple):
    """One step of an episode.

    Attributes:
        observation: what was seen.
        action: float64 [A], what goes with it.
        feature: float32 [D], the encoder's answer to it, where that is asked for.
        run: number of the run of steps without a gap that it belongs to, where that is asked for.
    """

    observation: Observation
    action: NDArray[np.float64]
    feature: NDArray[np.float32] | None = None
    run: int = 0


@dataclass(frozen=True)
class Unused:
    """A set that is no step, and why: 'rate', 'no_action', 'encoder_fault' or 'alone'."""

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
        elif (action := commands.at(outcome.time_ns)) is None:
            yield Unused(outcome.stamp_ns, 'no_action')
        else:
            yield Step(outcome, action)


def with_later_joints(outcomes: Iterable[Outcome | Unused], steps: int, rate_hz: float | None) -> Iterator[Part]:
    """Each set with the joint positions of so many sets later; the last ones, and with a rate those before a gap, get none."""
    waiting: deque[Observation] = deque()
    for outcome in outcomes:
        if not isinstance(outcome, Observation):
            yield outcome
            continue
        if waiting and rate_hz is not None and _is_gap(waiting[-1], outcome, rate_hz):
            yield from (Unused(observation.stamp_ns, 'no_action') for observation in waiting)
            waiting.clear()
        waiting.append(outcome)
        if len(waiting) > steps:
            yield Step(waiting.popleft(), outcome.joint_positions)
    for observation in waiting:
        yield Unused(observation.stamp_ns, 'no_action')


def with_features(parts: Iterable[Part], model: Model) -> Iterator[Part]:
    """Each step with its feature; one whose feature holds NaN or infinity is none."""
    for part in parts:
        if not isinstance(part, Step):
            yield part
            continue
        observation = part.observation
        (feature,) = model.encode(observation.images[np.newaxis], observation.joints[np.newaxis])
        yield part._replace(feature=feature) if np.isfinite(feature).all() else Unused(observation.stamp_ns, 'encoder_fault')


def in_runs(parts: Iterable[Part], rate_hz: float) -> Iterator[Part]:
    """Each step with the number of its run: a gap begins a new one. A step between two gaps is none."""
    last: Step | None = None
    run, is_alone = 0, True
    for part in parts:
        if not isinstance(part, Step):
            yield part
            continue
        if last is not None and _is_gap(last.observation, part.observation, rate_hz):
            yield Unused(last.observation.stamp_ns, 'alone') if is_alone else last
            run, is_alone = run + (not is_alone), True
        elif last is not None:
            yield last
            is_alone = False
        last = part._replace(run=run)
    if last is not None:
        yield Unused(last.observation.stamp_ns, 'alone') if is_alone else last


def whole_rate(bag: Path, outcomes: Iterator[Outcome]) -> tuple[int, Iterator[Outcome]]:
    """The sets a second, a whole number, by the first of them; and the same outcomes.

    Raises:
        BagError: when it is far from a whole number.
    """
    looked_at: list[Outcome] = []
    stamps_ns: list[int] = []
    for outcome in outcomes:
        looked_at.append(outcome)
        if isinstance(outcome, Observation):
            stamps_ns.append(outcome.stamp_ns)
            if len(stamps_ns) == _STEPS_LOOKED_AT:
                break
    rate_hz = 1e9 / float(np.median(np.diff(stamps_ns))) if len(stamps_ns) > 1 else 1.0
    whole = max(round(rate_hz), 1)
    if abs(rate_hz - whole) > _FAR_FROM_WHOLE * whole:
        raise BagError(
            f'bag {bag}: it has {rate_hz:.2f} sets per second, which is not a whole number; choose a rate with --rate'
        )
    return whole, chain(looked_at, outcomes)


def _is_gap(earlier: Observation, later: Observation, rate_hz: float) -> bool:
    return (later.stamp_ns - earlier.stamp_ns) / 1e9 * rate_hz > GAP_STEPS
