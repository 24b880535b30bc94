"""What a part is given, and how it says that a check failed or cannot be made here."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


class Skipped(Exception):  # noqa: N818
    """This cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Context:
    """Where a part runs, and how much of it.

    Attributes:
        device: what is measured.
        reduced: a few rounds of everything, to see that it runs at all.
        checkpoint: one to check beside those that the script makes; '' for none.
        seconds: how long the part may take.
        write: takes what has been found so far, which is then not lost when the part has to be ended.
    """

    device: torch.device
    reduced: bool
    checkpoint: str
    seconds: float
    write: Callable[[dict[str, Any]], None]
    started: float = field(default_factory=time.monotonic)

    @property
    def on_cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == 'cuda'

    @property
    def left_s(self) -> float:
        """Seconds that the part still has."""
        return self.seconds - (time.monotonic() - self.started)

    def keep(self, result: dict[str, Any]) -> None:
        """Keep what has been found so far. Raises Skipped when time is up."""
        self.write(result)
        if self.left_s < 0:
            raise Skipped('time was up; what was found until then is kept')

    def pick(self, full: Any, reduced: Any) -> Any:
        """How much of something: all, or a little."""
        return reduced if self.reduced else full

    def need_cuda(self, what: str) -> None:
        """Raises Skipped on a CPU."""
        if not self.on_cuda:
            raise Skipped(f'{what} needs CUDA; this is {self.device}')


class Checks:
    """Named checks. One that fails does not keep the others from running."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.rows: dict[str, dict[str, Any]] = {}

    def run(self, name: str, check: Callable[..., dict[str, Any] | None], *arguments: Any) -> None:
        """Note what a check returns, that it cannot be made, or how it failed."""
        start = time.monotonic()
        try:
            self.rows[name] = {'status': 'passed', **(check(*arguments) or {})}
        except Skipped as skipped:
            self.rows[name] = {'status': 'skipped', 'reason': str(skipped)}
        except Exception as error:
            self.rows[name] = {'status': 'failed', 'reason': _line(error), 'traceback': traceback.format_exc()}
        self.rows[name]['seconds'] = round(time.monotonic() - start, 1)
        self._context.keep(self.rows)


def attempt(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What is measured, or why it is not: another engine that is missing or fails is no failure of ours."""
    try:
        return measure(*arguments)
    except Skipped as skipped:
        return {'not measured': str(skipped)}
    except Exception as error:
        return {'not measured': _line(error)}


def _line(error: BaseException) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())}'[:500]
