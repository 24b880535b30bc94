"""What a worker does with one bag."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from fused_encoder_ros.errors import ConfigError, FusedEncoderError
from fused_encoder_ros.fleet.storage import BagRef, file_system, is_remote, local_copy, store, written
from fused_encoder_ros.offline.export_episode import EpisodeOptions, export_episode
from fused_encoder_ros.offline.observations import Progress
from fused_encoder_ros.settings import Settings

Report = Callable[[float], None]
"""Takes how much of a bag is done, 0 to 1."""


class Worker(Protocol):
    """Does bags, one at a time."""

    @property
    def made_with(self) -> Mapping[str, Any]:
        """What decides about the results, as JSON has it."""

    @property
    def greeting(self) -> tuple[str, ...]:
        """What a person should read, a line each."""

    def do(self, bag: BagRef, replace: bool, report: Report) -> Mapping[str, Any]:
        """Do one bag; gives counts and figures as JSON has them. Raises FusedEncoderError; then it has left nothing."""


class Job(Protocol):
    """What is to be done with every bag. It travels to other processes and machines, and makes the worker there."""

    @property
    def out(self) -> str:
        """Folder of the results, a path or an address."""

    @property
    def threads(self) -> int:
        """Cores that a worker uses."""

    @property
    def device(self) -> str:
        """What a worker computes on: auto, cpu, cuda or cuda:N."""

    def outputs(self, bag: BagRef) -> tuple[str, ...]:
        """Names of a bag's results below the folder."""

    def worker(self) -> Worker:
        """Load what a worker needs. Raises FusedEncoderError."""


@dataclass(frozen=True)
class EncodeJob:
    """A bag to features.

    Attributes:
        settings: the node's.
        out: folder of the results, a path or an address.
        bag_out: also write a bag of features.
        batch_size: sets encoded at once.
    """

    settings: Settings
    out: str
    bag_out: bool = False
    batch_size: int = 1

    @property
    def threads(self) -> int:
        """Cores that a worker uses."""
        return self.settings.model.threads

    @property
    def device(self) -> str:
        """See `Job`."""
        return self.settings.model.device

    def outputs(self, bag: BagRef) -> tuple[str, ...]:
        """See `Job`."""
        return (f'{bag.name}.parquet', *([f'{bag.name}_features'] if self.bag_out else []))

    def worker(self) -> Worker:
        """A worker with the model loaded."""
        return _Encoder(self)


class _Encoder:
    def __init__(self, job: EncodeJob) -> None:
        from fused_encoder_ros.model import load_model

        self._job = job
        settings = job.settings
        self._model = model = load_model(settings.model, settings.spec)
        self.greeting = (f'encoder: {model.description}', *(f'WARNING: {warning}' for warning in model.warnings))
        self.made_with = {
            'kind': 'encode',
            **_made_of(settings),
            'model': {
                'hash': model.hash,
                'engine': model.engine.name,
                'precision': model.engine.precision,
                'device': model.engine.device.type,
                'threads': model.threads,
            },
            'batch_size': job.batch_size,
            'bag_out': job.bag_out,
        }

    def do(self, bag: BagRef, replace: bool, report: Report) -> Mapping[str, Any]:
        """See `Worker`."""
        from fused_encoder_ros.offline.encode import encode_bag

        job = self._job
        with local_copy(bag) as path, results_of(job.out, bag.name) as folder:
            summary = encode_bag(
                path,
                folder,
                job.settings,
                self._model,
                name=Path(bag.name).name,
                bag_out=job.bag_out,
                batch_size=job.batch_size,
                force=replace,
                progress=_parts(report),
            )
        written_to = [f'{job.out.rstrip("/")}/{name}' for name in job.outputs(bag)]
        where = {'output': written_to[0], 'bag_output': written_to[1] if job.bag_out else None}
        return {**summary.to_dict(), 'bag': bag.uri, **where}


@dataclass(frozen=True)
class ExportJob:
    """A bag to an episode for training.

    Attributes:
        settings: the node's.
        out: folder of the results, a path or an address.
        options: what an episode is made of.
    """

    settings: Settings
    out: str
    options: EpisodeOptions

    @property
    def threads(self) -> int:
        """Cores that a worker uses: decoding is most of it."""
        return 1

    @property
    def device(self) -> str:
        """See `Job`."""
        return 'cpu'

    def outputs(self, bag: BagRef) -> tuple[str, ...]:
        """See `Job`."""
        return (f'{bag.name}.hdf5',)

    def worker(self) -> Worker:
        """A worker; it needs no model."""
        return _Exporter(self)


class _Exporter:
    def __init__(self, job: ExportJob) -> None:
        if importlib.util.find_spec('h5py') is None:
            raise ConfigError("--to hdf5 needs the package h5py: pip install '.[hdf5]'")
        self._job = job
        self.greeting: tuple[str, ...] = ()
        self.made_with = {'kind': 'export', **_made_of(job.settings), 'episode': asdict(job.options)}

    def do(self, bag: BagRef, replace: bool, report: Report) -> Mapping[str, Any]:
        """See `Worker`."""
        job = self._job
        with local_copy(bag) as path, results_of(job.out, bag.name) as folder:
            summary = export_episode(
                path,
                folder,
                job.settings,
                job.options,
                name=Path(bag.name).name,
                force=replace,
                progress=_parts(report),
            )
        return {'bag': bag.uri, 'output': f'{job.out.rstrip("/")}/{job.outputs(bag)[0]}', **summary}


def _made_of(settings: Settings) -> dict[str, Any]:
    return {**settings.provenance(), 'untyped_color_order': settings.values['untyped_color_order']}


def _parts(report: Report) -> Progress:
    """Messages done, of all, as the part that is done; a bag's metadata may count none."""
    return lambda done, total: report(done / max(total, 1))


@contextmanager
def results_of(out: str, name: str) -> Iterator[Path]:
    """The folder for a bag's results: of an object store one of this machine, whose files are stored when the block ends well.

    Raises:
        OutputError: when they cannot be stored.
    """
    below = Path(name).parent
    if not is_remote(out):
        yield Path(out) / below
        return
    system, at = file_system(out)
    at = '/'.join([at.rstrip('/'), *below.parts])
    with tempfile.TemporaryDirectory(prefix='fused-encoder-') as folder:
        yield Path(folder)
        with written(out):
            for file in sorted(Path(folder).iterdir()):
                store(system, file, f'{at}/{file.name}')


def reason_of(bag: BagRef, error: BaseException) -> str:
    """Why a bag could not be done, in a line."""
    text = ' '.join(str(error).split())
    if isinstance(error, FusedEncoderError):
        return text
    return f'bag {bag.uri}: {type(error).__name__}: {text}; this is a fault of the program'


def exit_with_parent() -> None:
    """Have the kernel end this process with the one that started it: orphans would go on writing."""
    import ctypes
    import signal

    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of Linux
    if os.getppid() != parent:
        os._exit(1)
