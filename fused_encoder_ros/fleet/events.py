"""What workers tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fused_encoder_ros.fleet.storage import BagRef


@dataclass(frozen=True)
class Ready:
    """A worker has loaded what it needs."""

    made_with: Mapping[str, Any]
    greeting: tuple[str, ...]


@dataclass(frozen=True)
class Planned:
    """What this run will do: what no earlier one has done."""

    bags: tuple[BagRef, ...]


@dataclass(frozen=True)
class Begun:
    """A worker has taken a bag."""

    bag: BagRef


@dataclass(frozen=True)
class Progress:
    """How much of a bag is done, 0 to 1."""

    bag: BagRef
    part: float


@dataclass(frozen=True)
class Done:
    """A bag is done; `summary` is what the worker says of it, as JSON has it."""

    bag: BagRef
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """A bag cannot be done, or its workers have died of it."""

    bag: BagRef
    reason: str


@dataclass(frozen=True)
class Lost:
    """A worker is lost, or there is room for none; others go on."""

    reason: str


Event = Ready | Planned | Begun | Progress | Done | Failed | Lost

Tell = Callable[[Event], None]
