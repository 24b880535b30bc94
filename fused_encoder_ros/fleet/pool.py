"""Workers in other processes: how bags are shared out among them, and what happens when one is lost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fused_encoder_ros.errors import ConfigError, EngineError, FusedEncoderError, in_one_line
from fused_encoder_ros.fleet.events import Begun, Done, Failed, Lost, Progress, Ready, Tell
from fused_encoder_ros.fleet.jobs import Worker, reason_of
from fused_encoder_ros.fleet.storage import BagRef
from fused_encoder_ros.offline.provenance import difference

Message = Ready | Progress | Done | Failed | Exception
"""What a worker tells. After an exception it is of no more use."""

WORKER_BYTES = 1_500_000_000
"""Room for a worker with torch, an engine and a bag: 0.85 GB on a CPU, by benchmarks/fleet.py."""

_TRIES = 3
_STEP = 0.01


class LostWorkerError(FusedEncoderError):
    """The process or the machine of a worker has died."""


@dataclass
class Task:
    """A bag, whether its results may be replaced, and how often it was begun."""

    bag: BagRef
    replace: bool
    tries: int = 0


class Member(ABC):
    """A worker as the pool sees it."""

    is_ready = False
    task: Task | None = None

    @abstractmethod
    def give(self, bag: BagRef, replace: bool) -> None:
        """Have it do a bag; it is ready, and has none."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once."""


M = TypeVar('M', bound=Member)


class Pool(ABC, Generic[M]):
    """Workers in other processes. Use it as a context; leaving it ends what still works.

    A bag whose worker is lost is tried again by another, three times in all: a bag that kills its worker must not be tried for
    ever. A worker that cannot be started is no loss as long as others work, but after three in a row no more are started.
    """

    def __init__(self) -> None:
        self._members: list[M] = []

    def __enter__(self) -> Pool[M]:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _room(self, tell: Tell) -> int:
        """For how many workers there is room now."""

    @abstractmethod
    def _begin(self) -> M:
        """Begin to start a worker."""

    @abstractmethod
    def _heard(self) -> Iterable[tuple[M, Message]]:
        """Wait for the members to tell something; it may be nothing, after a while."""

    def stop(self) -> None:
        """See `run.Workers`."""
        for member in self._members:
            member.kill()
        self._members.clear()

    def start(self) -> Ready:
        """See `run.Workers`."""
        lost = 0
        self._members.append(self._begin())
        while True:
            for member, message in self._heard():
                if isinstance(message, Ready):
                    member.is_ready = True
                    self._made_with = message.made_with
                    return message
                assert isinstance(message, Exception)
                lost += 1
                if lost == _TRIES or not isinstance(message, LostWorkerError):
                    raise message
                self._members.remove(member)
                member.kill()
                self._members.append(self._begin())

    def do(self, bags: Sequence[tuple[BagRef, bool]], tell: Tell) -> None:
        """See `run.Workers`."""
        waiting = deque(Task(bag, replace) for bag, replace in bags)
        failed_starts: list[Exception] = []
        while True:
            for member in self._members:
                if waiting and member.is_ready and member.task is None:
                    member.task = task = waiting.popleft()
                    task.tries += 1
                    tell(Begun(task.bag))
                    member.give(task.bag, task.replace)
            unfinished = len(waiting) + sum(member.task is not None for member in self._members)
            if not unfinished:
                return
            if len(failed_starts) < _TRIES:
                while len(self._members) < min(self._room(tell), unfinished):
                    self._members.append(self._begin())
            elif not self._members:
                raise failed_starts[-1]
            for member, message in self._heard():
                if isinstance(message, Ready) and message.made_with != self._made_with:
                    other = difference(self._made_with, message.made_with)
                    message = ConfigError(f'its results would differ from those of the other workers: {other}')
                if isinstance(message, Ready):
                    member.is_ready = True
                    failed_starts.clear()
                elif isinstance(message, Exception):
                    self._members.remove(member)
                    member.kill()
                    if member.task:
                        _lose(member.task, message, waiting, tell)
                    elif not member.is_ready:
                        failed_starts.append(message)
                        tell(Lost(f'a worker could not be started: {message}'))
                else:
                    if not isinstance(message, Progress):
                        member.task = None
                    tell(message)


def _lose(task: Task, error: Exception, waiting: deque[Task], tell: Tell) -> None:
    """What becomes of a bag whose worker is lost."""
    reason = f'bag {task.bag.uri}: {error}'
    if task.tries == _TRIES:
        tell(Failed(task.bag, f'{reason}; this happened {_TRIES} times'))
    else:
        tell(Lost(f'{reason}; the bag is tried again'))
        task.replace = True  # the lost worker may have ended between its results and the message
        waiting.append(task)


def serve(start: Callable[[], Worker], receive: Callable[[], tuple[BagRef, bool]], send: Callable[[Message], None]) -> None:
    """The life of a worker: load, then do one bag after the other; it ends when its engine fails, or with the connection."""
    try:
        worker = start()
        send(Ready(worker.made_with, worker.greeting))
        while True:
            send(do_one(worker, *receive(), send))
    except (EOFError, BrokenPipeError):
        return
    except (FusedEncoderError, ImportError) as error:
        send(error)
    except Exception as error:  # as text: its class may not exist where it is read
        send(FusedEncoderError(f'{type(error).__name__}: {in_one_line(error)}; this is a fault of the program'))


def do_one(worker: Worker, bag: BagRef, replace: bool, tell: Callable[[Progress], Any]) -> Done | Failed:
    """Have a worker do a bag, and be told of its progress by the hundredth.

    Raises:
        EngineError: when the engine fails: a lost GPU stays lost to the process.
    """
    told = 0.0

    def report(part: float) -> None:
        nonlocal told
        if part - told >= _STEP:
            told = part
            tell(Progress(bag, part))

    try:
        return Done(bag, worker.do(bag, replace, report))
    except EngineError:
        raise
    except Exception as error:
        return Failed(bag, reason_of(bag, error))
