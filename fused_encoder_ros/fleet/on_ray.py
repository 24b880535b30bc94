"""Workers in a Ray cluster, each an actor."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fused_encoder_ros.errors import ConfigError, FusedEncoderError, OutputError, in_one_line
from fused_encoder_ros.fleet.events import Lost, Progress, Ready, Tell
from fused_encoder_ros.fleet.jobs import Job, Report, Worker
from fused_encoder_ros.fleet.pool import WORKER_BYTES, LostWorkerError, Member, Message, Pool, serve
from fused_encoder_ros.fleet.storage import BagRef, is_remote
from fused_encoder_ros.offline.files import clear_leftovers, clear_own, unfinished

_HERE = 'local'
_LOOK_S = 0.5
_END_S = 2.0
_REACH_S = 5.0
_TRIES = 3
_LONGEST_TEMPORARY = 30
"""Characters: Ray's sockets lie 65 deeper, and a socket's path may have 107."""

_ENVIRONMENT = {
    'RAY_USAGE_STATS_ENABLED': '0',  # it would report to Ray's makers
    'RAY_ENABLE_AUTO_CONNECT': '0',
    'RAY_DEDUP_LOGS_SKIP_REGEX': '^',  # Ray would print on stdout what the pool tells in its own words
}
_ENVIRONMENT_HERE = {
    'RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER': '0',  # listen on the loopback interface alone
}
_ENVIRONMENT_THERE = {
    # Where no Ray answers, Ray itself would try for 14 minutes.
    'RAY_NUM_REDIS_GET_RETRIES': '1',
    'RAY_gcs_rpc_server_connect_timeout_s': '1',
    'RAY_py_gcs_connect_timeout_s': '3',
    'RAY_gcs_server_request_timeout_seconds': '5',
    'RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S': '2',
    'RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S': '2',
}


def cluster_address(on: str) -> str:
    """What Ray is given for `--on`: for 'ray' the environment's RAY_ADDRESS, or a cluster of this machine for this run alone.

    Raises:
        ConfigError: when it is no address.
    """
    address = os.environ.get('RAY_ADDRESS', _HERE) if on == 'ray' else on
    if address != _HERE and not _host_and_port(address):
        raise ConfigError(
            f'{address} is not an address of a Ray cluster; use ray, ray://HOST:10001, or HOST:6379 on a node of the cluster'
        )
    return address


def _host_and_port(address: str) -> re.Match[str] | None:
    return re.fullmatch(r'(?:ray://)?\[?([^/\s]+?)\]?:(\d{1,5})', address)


class RayWorkers(Pool['_Handle']):
    """Workers in a Ray cluster: one for each GPU where the job uses GPUs, else for each `job.threads` cores.

    Args:
        job: what they do.
        address: see `cluster_address`.
        bags: which bags; one of them tells whether a node sees them.
        count: at most so many workers; None takes what the cluster has room for.

    Raises:
        ConfigError: on entering, when the cluster cannot be reached, or has room for no worker.
        OutputError: on entering, when the output folder cannot be written to.
    """

    def __init__(self, job: Job, address: str, bags: Sequence[BagRef], count: int | None = None) -> None:
        super().__init__()
        self._job = job
        self._address = address
        self._name = 'Ray cluster of this machine' if address == _HERE else f'Ray cluster {address}'
        self._count = count
        self._bag = next((bag.uri for bag in bags if bag.size and not is_remote(bag.uri)), None)
        self._has_room = True

    def __enter__(self) -> RayWorkers:
        if self._job.device.startswith('cuda:'):
            raise ConfigError(f'device: {self._job.device} names a GPU of one machine; in a cluster use cuda')
        with ExitStack() as stack:
            self._ray = stack.enter_context(_connected(self._address))
            self._needs = self._needs_of_a_worker()
            if not self._capacity():
                raise ConfigError(
                    f'no node of the {self._name} has {self._in_words()} for a worker; start a node that has, or '
                    'change the parameters threads and device'
                )
            must_see = {f'the bag {self._bag}': self._bag} if self._bag else {}
            if not is_remote(self._job.out):
                marker = stack.enter_context(_marker(Path(self._job.out)))
                must_see[f'the output folder {Path(self._job.out).absolute()}'] = str(marker)
            self._actor = self._ray.remote(_Actor).options(
                num_cpus=self._needs['CPU'],
                num_gpus=self._needs.get('GPU', 0),
                memory=self._needs['memory'],
                max_concurrency=2,  # it is given a bag while it is asked what there is to tell
                max_restarts=0,
                scheduling_strategy='SPREAD',
                # Ray leaves the GPUs visible to who asked for none.
                runtime_env={} if 'GPU' in self._needs else {'env_vars': {'CUDA_VISIBLE_DEVICES': ''}},
            )
            self._arguments = self._job, os.getcwd(), must_see
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._opened:
            self.stop()

    def start(self) -> Ready:
        """See `run.Workers`."""
        ready = super().start()
        workers = self._capacity()
        where = f'{self._name}: room for {workers} worker{"s" * (workers > 1)} with {self._in_words()} each'
        return replace(ready, greeting=(where, *ready.greeting))

    def stop(self) -> None:
        """See `run.Workers`. Workers remove what they have not completed, as long as they can be reached."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            leaving = [member.actor.leave.remote() for member in self._members if member.is_ready]
            if leaving:
                self._ray.wait(leaving, num_returns=len(leaving), timeout=_END_S)
            super().stop()

    def _room(self, tell: Tell) -> int:
        capacity = self._capacity()
        if not capacity and self._has_room:
            tell(Lost(f'no node of the {self._name} has {self._in_words()} any more; waiting for such a node'))
        self._has_room = capacity > 0
        # One more than there is room for waits: from that a cluster that can grow knows that it should.
        return min(capacity + 1, self._count or capacity + 1)

    def _begin(self) -> _Handle:
        return _Handle(self._ray, self._actor.remote(*self._arguments))

    def _heard(self) -> Iterator[tuple[_Handle, Message]]:
        members = {member.next: member for member in self._members}
        with self._reached():
            heard, _ = self._ray.wait(list(members), timeout=_LOOK_S)
            heard, _ = self._ray.wait(list(members), num_returns=len(members), timeout=0) if heard else ([], None)
        for ref in heard:
            for message in members[ref].read():
                yield members[ref], message

    def _needs_of_a_worker(self) -> dict[str, float]:
        """In Ray's words: CPU, memory in bytes, GPU."""
        device = self._job.device
        needs: dict[str, float] = {'CPU': self._job.threads, 'memory': WORKER_BYTES}
        if device == 'cuda' or (device == 'auto' and any(node.get('GPU', 0) >= 1 for node in self._nodes())):
            needs['GPU'] = 1
        return needs

    def _in_words(self) -> str:
        cpus = self._job.threads
        gpu = ' and a GPU' if 'GPU' in self._needs else ''
        return f'{cpus} CPU{"s" * (cpus > 1)}{", " if gpu else " and "}{WORKER_BYTES / 1e9:g} GB of memory{gpu}'

    def _capacity(self) -> int:
        return sum(min(int(node.get(what, 0) // needed) for what, needed in self._needs.items()) for node in self._nodes())

    def _nodes(self) -> list[Mapping[str, float]]:
        """What each node has, in Ray's words."""
        with self._reached():
            return [node['Resources'] for node in self._ray.nodes() if node['Alive']]

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise FusedEncoderError(
                f'the {self._name} is lost: {_line(error)}; run the same command again when it is back: bags that are done '
                'are not repeated'
            ) from error


class _Handle(Member):
    """An actor as the driver sees it."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self.actor = actor
        self.next = actor.told.remote()

    def read(self) -> list[Message]:
        """What it has told."""
        try:
            messages: list[Message] = self._ray.get(self.next)
        except Exception as error:  # Ray has several for actors, workers and nodes that died
            return [LostWorkerError(f'the worker is lost: {_line(error)}')]
        self.next = self.actor.told.remote()
        return messages

    def give(self, bag: BagRef, replace: bool) -> None:
        self.actor.give.remote(bag, replace)

    def kill(self) -> None:
        with contextlib.suppress(Exception):
            self._ray.kill(self.actor)


class _Actor:
    """A worker in the cluster. The work has a thread of its own: those of Ray wait in `told`."""

    def __init__(self, job: Job, folder: str, must_see: Mapping[str, str]) -> None:
        self._out = job.out
        self._orders: queue.SimpleQueue[tuple[BagRef, bool]] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[Message] = queue.SimpleQueue()
        start = partial(_OnNode, job, folder, must_see)
        threading.Thread(target=serve, args=(start, self._orders.get, self._told.put), daemon=True).start()

    def give(self, bag: BagRef, replace: bool) -> None:
        self._orders.put((bag, replace))

    def told(self) -> list[Message]:
        """Wait for something to tell; of the progress only the last."""
        messages = [self._told.get()]
        while not self._told.empty():
            if isinstance(messages[-1], Progress):
                messages.pop()
            messages.append(self._told.get())
        return messages

    def leave(self) -> None:
        if not is_remote(self._out):
            clear_own(Path(self._out))
        os._exit(0)


class _OnNode:
    """The job's worker, whose errors name the machine. Relative paths count from the driver's folder, where that exists."""

    def __init__(self, job: Job, folder: str, must_see: Mapping[str, str]) -> None:
        with contextlib.suppress(OSError):
            os.chdir(folder)
        for what, path in must_see.items():
            if not Path(path).exists():
                raise OutputError(
                    f'{what} does not exist on {socket.gethostname()}; bags and --out must be in folders that every node sees '
                    'under the same path, or have addresses such as s3://…'
                )
        if not is_remote(job.out):
            clear_leftovers(Path(job.out))
        with _named():
            self._worker: Worker = job.worker()
        self.made_with = self._worker.made_with
        self.greeting = self._worker.greeting

    def do(self, bag: BagRef, replace: bool, report: Report) -> Mapping[str, Any]:
        """See `Worker`."""
        with _named():
            return self._worker.do(bag, replace, report)


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except FusedEncoderError as error:
        raise type(error)(f'{error} (on {socket.gethostname()})') from error


@contextmanager
def _marker(out: Path) -> Iterator[Path]:
    """A folder of the output folder that tells it from others of the same path on other machines."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        marker = unfinished(out.absolute())
    except OSError as error:
        raise OutputError(f'output folder {out} cannot be written: {error.strerror}; choose another place') from error
    try:
        yield marker
    finally:
        shutil.rmtree(marker, ignore_errors=True)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected with a cluster."""
    is_here = address == _HERE
    if not is_here:
        _reach(address)
    for name, value in {**_ENVIRONMENT, **(_ENVIRONMENT_HERE if is_here else _ENVIRONMENT_THERE)}.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError("--on needs the package ray: pip install '.[ray]'") from error
    # Workers run this very code, whatever else a node has.
    environment = {'py_modules': [str(Path(__file__).parent.parent)]}
    usual: dict[str, Any] = {'runtime_env': environment, 'log_to_driver': False, 'logging_level': 'ERROR'}
    with ExitStack() as stack:
        if is_here:
            usual |= stack.enter_context(_here())
        handler = signal.getsignal(signal.SIGTERM)
        try:
            _init(ray, address, usual)
        except Exception as error:  # RuntimeError, ConnectionError, and what gRPC raises
            raise ConfigError(
                f'no Ray cluster can be used at {address}: {_line(error)}. Check that Ray listens there, in the same version '
                'as here, and that the port is right: HOST:6379 for programs on a node of the cluster, ray://HOST:10001 for '
                'others'
            ) from error
        finally:
            signal.signal(signal.SIGTERM, handler)  # Ray has put its own in place
        stack.callback(ray.shutdown)
        yield ray


def _init(ray: Any, address: str, usual: Mapping[str, Any]) -> None:
    for tries_left in reversed(range(_TRIES)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # of what it then raises
                ray.init(address, **usual)
            return
        except ConnectionAbortedError:
            # The head starts a process for each client, which on a busy machine may be gone before it is up.
            if not tries_left:
                raise


@contextmanager
def _here() -> Iterator[dict[str, Any]]:
    """What a cluster of this machine needs: a folder, and a secret, which Ray would write into the home folder."""
    os.environ.setdefault('RAY_AUTH_TOKEN', os.urandom(32).hex())
    short = tempfile.gettempdir() if len(tempfile.gettempdir()) < _LONGEST_TEMPORARY else '/tmp'
    with tempfile.TemporaryDirectory(prefix='fused-ray-', dir=short, ignore_cleanup_errors=True) as folder:
        yield {'_temp_dir': folder, 'include_dashboard': False, 'object_store_memory': 100_000_000}


def _reach(address: str) -> None:
    """Raises ConfigError where nothing listens."""
    match = _host_and_port(address)
    assert match
    try:
        socket.create_connection((match[1], int(match[2])), _REACH_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f'no Ray cluster at {address}: {error}; start one with `ray start --head`, which says its port (usually 6379), or '
            'correct --on or RAY_ADDRESS'
        ) from error


def _line(error: BaseException) -> str:
    """What Ray says, without what only Ray knows."""
    text = re.sub(r'\b(class_name|actor_id|pid|namespace|Node Id): \S+', '', str(error))
    return in_one_line(text)
