"""Workers on this machine, each a process."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fused_encoder_ros.errors import FusedEncoderError
from fused_encoder_ros.fleet.events import Begun, Done, Failed, Progress, Ready, Tell
from fused_encoder_ros.fleet.jobs import Job, Worker, exit_with_parent, reason_of
from fused_encoder_ros.fleet.storage import BagRef

_WORKER_BYTES = 1_500_000_000
"""Room for a worker with torch, an engine and a bag: 0.85 GB on a CPU, by benchmarks/fleet.py."""

_STEP = 0.01


def usual_workers(threads: int) -> int:
    """As many as cores and memory allow, of so many threads each."""
    cores = len(os.sched_getaffinity(0))
    available = next(line for line in Path('/proc/meminfo').read_text().splitlines() if line.startswith('MemAvailable'))
    return max(1, min(cores // threads, int(available.split()[1]) * 1024 // _WORKER_BYTES))


class LocalWorkers:
    """Workers in processes of this machine. Use it as a context; leaving it kills what still works.

    Args:
        job: what they do.
        count: how many.
    """

    def __init__(self, job: Job, count: int) -> None:
        self._job = job
        self._count = count
        self._context = multiprocessing.get_context('spawn')
        self._workers: list[_Process] = []

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Ready:
        """See `run.Workers`."""
        worker = self._add()
        message = worker.read()
        if isinstance(message, Exception):
            raise message
        if not isinstance(message, Ready):
            raise FusedEncoderError(f'a worker {worker.cause_of_death()} before it was ready')
        return message

    def do(self, bags: Sequence[tuple[BagRef, bool]], tell: Tell) -> None:
        """See `run.Workers`. A bag that its worker dies of has failed."""
        waiting = deque(bags)
        while len(self._workers) < min(self._count, len(waiting)):
            self._add()
        while True:
            for worker in self._workers:
                if waiting and worker.bag is None:
                    worker.bag, replace = waiting.popleft()
                    tell(Begun(worker.bag))
                    worker.give(worker.bag, replace)
            if all(worker.bag is None for worker in self._workers):
                return
            heard = wait([worker.connection for worker in self._workers])
            for worker in [worker for worker in self._workers if worker.connection in heard]:
                self._hear(worker, tell)
            while len(self._workers) < min(self._count, len(waiting)):
                self._add()

    def stop(self) -> None:
        """See `run.Workers`."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _hear(self, worker: _Process, tell: Tell) -> None:
        message = worker.read()
        if message is None:
            self._workers.remove(worker)
            cause = worker.cause_of_death()
            worker.kill()
            if worker.bag:
                tell(Failed(worker.bag, f'bag {worker.bag.uri}: its worker {cause}'))
        elif isinstance(message, Exception):
            raise message
        elif not isinstance(message, Ready):
            if not isinstance(message, Progress):
                worker.bag = None
            tell(message)

    def _add(self) -> _Process:
        worker = _Process(self._context, self._job)
        self._workers.append(worker)
        return worker


class _Process:
    def __init__(self, context: Any, job: Job) -> None:
        self.connection, other = context.Pipe()
        self.bag: BagRef | None = None
        self._process: BaseProcess = context.Process(target=_work, args=(other, job), daemon=True)
        self._process.start()
        other.close()

    def read(self) -> Any:
        """The next message; None when the process is gone."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def give(self, bag: BagRef, replace: bool) -> None:
        with contextlib.suppress(OSError):  # it is gone, which the next read tells
            self.connection.send((bag, replace))

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()

    def cause_of_death(self) -> str:
        self._process.join()
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            return 'was killed (SIGKILL), most often for want of memory: see dmesg, or use fewer --workers'
        return f'was ended by {signal.Signals(-code).name}' if code < 0 else f'ended with code {code}'


def _work(connection: Connection, job: Job) -> None:
    """A worker's life."""
    exit_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    try:
        worker = job.worker()
    except Exception as error:
        connection.send(error)
        return
    connection.send(Ready(worker.made_with, worker.greeting))
    while True:
        try:
            bag, replace = connection.recv()
        except EOFError:
            return
        connection.send(do_one(worker, bag, replace, connection.send))


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
            tell(do_one(self._worker, bag, replace, tell))

    def stop(self) -> None:
        """See `run.Workers`; whoever raised has ended the work."""


def do_one(worker: Worker, bag: BagRef, replace: bool, tell: Callable[[Progress], None]) -> Done | Failed:
    """Have a worker do a bag, and be told of its progress by the hundredth."""
    told = 0.0

    def report(part: float) -> None:
        nonlocal told
        if part - told >= _STEP:
            told = part
            tell(Progress(bag, part))

    try:
        return Done(bag, worker.do(bag, replace, report))
    except Exception as error:
        return Failed(bag, reason_of(bag, error))
