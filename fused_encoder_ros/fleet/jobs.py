"""What a worker does with one bag."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fused_encoder_ros.errors import ConfigError, FusedEncoderError, OutputError, in_one_line
from fused_encoder_ros.fleet.storage import BagRef, file_system, is_remote, local_copy, store, written
from fused_encoder_ros.offline.export_episode import FORMATS, EpisodeOptions, export_episode
from fused_encoder_ros.offline.observations import Progress
from fused_encoder_ros.offline.preview import write_preview
from fused_encoder_ros.pipeline.data import Observation
from fused_encoder_ros.settings import Settings

if TYPE_CHECKING:  # torch takes seconds to import
    from fused_encoder_ros.fleet.manifest import Record
    from fused_encoder_ros.model import Model

DATASET = 'dataset'
"""Name of what the bags of an export to LeRobot give together, below the folder of the results."""

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

    def finish(self, made_with: Mapping[str, Any], done: Sequence[Record]) -> Mapping[BagRef, str]:
        """Make what all bags that are done give together; gives the bags that do not fit in, and why. Raises OutputError."""


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

    def finish(self, made_with: Mapping[str, Any], done: Sequence[Record]) -> Mapping[BagRef, str]:
        """Nothing: each bag has results of its own."""
        return {}


class _Encoder:
    def __init__(self, job: EncodeJob) -> None:
        from fused_encoder_ros.model import load_model

        self._job = job
        settings = job.settings
        self._model = model = load_model(settings.model, settings.spec)
        self.greeting = greeting_of(model)
        self.made_with = {
            'kind': 'encode',
            **made_of(settings),
            'model': that_of(model),
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
                progress=parts_of(report),
            )
            keep_preview(folder, bag, summary.middle)
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
        """Cores that a worker uses: without the encoder decoding is most of it."""
        return self.settings.model.threads if self.options.features else 1

    @property
    def device(self) -> str:
        """See `Job`."""
        return 'cpu'

    def outputs(self, bag: BagRef) -> tuple[str, ...]:
        """See `Job`."""
        return (FORMATS[self.options.to].result.format(bag.name),)

    def worker(self) -> Worker:
        """A worker; it needs a model only for features."""
        return _Exporter(self)

    def finish(self, made_with: Mapping[str, Any], done: Sequence[Record]) -> Mapping[BagRef, str]:
        """For LeRobot, one data set of those of all bags, in the order of their names."""
        if self.options.to != 'lerobot':
            return {}
        from fused_encoder_ros.offline.formats import lerobot

        out = Path(self.out)
        bags = sorted((record for record in done if record.summary['steps']), key=lambda record: record.bag.name)
        folders = {record.bag: out / record.outputs[0] for record in bags}
        for bag, folder in folders.items():
            if not folder.is_dir():
                raise OutputError(
                    f'{folder} is missing, but {out / DATASET} is made from it; give {bag.uri} too, or choose another --out'
                )
        misfits = lerobot.misfits(list(folders.values()))
        merged = [asdict(record) for record in bags if folders[record.bag] not in misfits]
        about = json.loads(json.dumps({'made_with': made_with, 'bags': merged}))
        known = lerobot.read_about(out / DATASET)
        if merged and any(known.get(name) != value for name, value in about.items()):
            lerobot.merge({bag.name: folder for bag, folder in folders.items() if folder not in misfits}, out / DATASET, about)
        return {bag: f'bag {bag.uri}: {misfits[folder]}' for bag, folder in folders.items() if folder in misfits}


class _Exporter:
    def __init__(self, job: ExportJob) -> None:
        self._job = job
        settings, options = job.settings, job.options
        kind = FORMATS[options.to]
        if kind.package and importlib.util.find_spec(kind.package) is None:
            raise ConfigError(f"--to {options.to} needs the package {kind.package}: pip install '.[{kind.extra}]'")
        self.made_with: dict[str, Any] = {'kind': 'export', **made_of(settings), 'episode': asdict(options)}
        self.greeting: tuple[str, ...] = ()
        self._model = None
        if options.to == 'lerobot':
            from fused_encoder_ros.offline.formats.lerobot import lerobot_version, refuse_foreign

            refuse_foreign(Path(job.out))
            self.made_with['lerobot'] = lerobot_version()
        if options.features:
            from fused_encoder_ros.model import load_model

            self._model = load_model(settings.model, settings.spec)
            self.made_with['model'] = that_of(self._model)
            self.greeting = greeting_of(self._model)

    def do(self, bag: BagRef, replace: bool, report: Report) -> Mapping[str, Any]:
        """See `Worker`."""
        job = self._job
        (output,) = job.outputs(bag)
        with local_copy(bag) as path, results_of(job.out, output) as folder:
            summary, middle = export_episode(
                path,
                folder / Path(output).name,
                job.settings,
                job.options,
                self._model,
                force=replace,
                progress=parts_of(report),
            )
            keep_preview(folder, bag, middle)
        return {'bag': bag.uri, 'output': f'{job.out.rstrip("/")}/{output}', **summary}


def that_of(model: Model) -> dict[str, Any]:
    """What of a model decides about features, as JSON has it."""
    return {
        'hash': model.hash,
        'engine': model.engine.name,
        'precision': model.engine.precision,
        'device': model.engine.device.type,
        'threads': model.threads,
    }


def greeting_of(model: Model) -> tuple[str, ...]:
    """What a person should read about a model, a line each."""
    return (f'encoder: {model.description}', *(f'WARNING: {warning}' for warning in model.warnings))


def made_of(settings: Settings) -> dict[str, Any]:
    """What of the settings decides about observations, as JSON has it."""
    return {**settings.provenance(), 'untyped_color_order': settings.values['untyped_color_order']}


def parts_of(report: Report) -> Progress:
    """Messages done, of all, as the part that is done; a bag's metadata may count none."""
    return lambda done, total: report(done / max(total, 1))


def keep_preview(folder: Path, bag: BagRef, middle: Observation | None) -> None:
    """Write a set from the middle of a bag beside its results, for the run report."""
    if middle is not None:
        with contextlib.suppress(OutputError):  # the results are whole without it
            write_preview(folder, Path(bag.name).name, middle.images)


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
    if isinstance(error, FusedEncoderError):
        return ' '.join(str(error).split())
    return f'bag {bag.uri}: {type(error).__name__}: {in_one_line(error)}; this is a fault of the program'


def exit_with_parent() -> None:
    """Have the kernel end this process with the one that started it: orphans would go on writing."""
    import ctypes
    import signal

    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of Linux
    if os.getppid() != parent:
        os._exit(1)
