"""Workers on this machine, each a process."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fused_encoder_ros.errors import EngineError
from fused_encoder_ros.fleet.events import Begun, Failed, Ready, Tell
from fused_encoder_ros.fleet.jobs import Job, exit_with_parent, reason_of
from fused_encoder_ros.fleet.pool import WORKER_BYTES, LostWorkerError, Member, Message, Pool, do_one, serve
from fused_encoder_ros.fleet.storage import BagRef


def usual_workers(threads: int) -> int:
    """As many as cores and memory allow, of so many threads each."""
    cores = len(os.sched_getaffinity(0))
    available = next(line for line in Path('/proc/meminfo').read_text().splitlines() if line.startswith('MemAvailable'))
    return max(1, min(cores // threads, int(available.split()[1]) * 1024 // WORKER_BYTES))


class LocalWorkers(Pool['_Process']):
    """Workers in processes of this machine.

    Args:
        job: what they do.
        count: how many.
    """

    def __init__(self, job: Job, count: int) -> None:
        super().__init__()
        self._job = job
        self._count = count
        self._context = multiprocessing.get_context('spawn')

    def _room(self, tell: Tell) -> int:
        return self._count

    def _begin(self) -> _Process:
        return _Process(self._context, self._job)

    def _heard(self) -> list[tuple[_Process, Message]]:
        heard = wait([member.connection for member in self._members])
        return [(member, member.read()) for member in self._members if member.connection in heard]


class _Process(Member):
    def __init__(self, context: Any, job: Job) -> None:
        self.connection, other = context.Pipe()
        self._process: BaseProcess = context.Process(target=_work, args=(other, job), daemon=True)
        # Until the worker ignores it, Ctrl-C would have it print where it was. A blocked signal comes later, to us alone.
        resource_tracker.ensure_running()  # which unblocks it when it is started
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
        other.close()

    def read(self) -> Message:
        """The next message."""
        try:
            message: Message = self.connection.recv()
            return message
        except (EOFError, OSError):
            return LostWorkerError(f'the worker {self._cause_of_death()}')

    def give(self, bag: BagRef, replace: bool) -> None:
        with contextlib.suppress(OSError):  # it is gone, which the next read tells
            self.connection.send((bag, replace))

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _cause_of_death(self) -> str:
        self._process.join()
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            return 'was killed (SIGKILL), usually because memory ran out; check dmesg, or use fewer --workers'
        return f'was ended by {signal.Signals(-code).name}' if code < 0 else f'ended with code {code}'


def _work(connection: Connection, job: Job) -> None:
    exit_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    serve(job.worker, connection.recv, connection.send)


class OneHere:
    """The only worker, in this process: for a single bag another would only cost its start."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __enter__(self) -> OneHere:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self) -> Ready:
        """See `run.Workers`."""
        self._worker = self._job.worker()
        return Ready(self._worker.made_with, self._worker.greeting)

    def do(self, bags: Sequence[tuple[BagRef, bool]], tell: Tell) -> None:
        """See `run.Workers`."""
        for bag, replace in bags:
            tell(Begun(bag))
            try:
                tell(do_one(self._worker, bag, replace, tell))
            except EngineError as error:
                tell(Failed(bag, reason_of(bag, error)))

    def stop(self) -> None:
        """See `run.Workers`; whoever raised has ended the work."""
