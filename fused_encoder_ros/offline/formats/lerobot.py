"""Episodes as a LeRobotDataset v3.0, written by the lerobot package itself, so that its format is theirs."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.errors import ConfigError, OutputError
from fused_encoder_ros.offline.episodes import Episode, Step
from fused_encoder_ros.offline.files import completed

ABOUT = 'meta/fused_encoder.json'
"""What this package says of a data set, in it."""

_INFO = 'meta/info.json'
_STAMPS = 'stamps_ns'


class LeRobotEpisode:
    """Writes the steps of one bag as a data set; each run of steps without a gap is an episode of it.

    Features: `observation.images.<camera>`, images [H,W,3]; `observation.state` float32 [J]; `action` float32 [A];
    `stamps_ns` int64 [C+1] and `skews_ns` int64 [C+1], of each camera and the joints; where steps have one,
    `fused_feature` float32 [D]. `timestamp` is LeRobot's own: the number of the step divided by the rate.
    `meta/fused_encoder.json` holds the metadata and where each episode begins.
    """

    def __init__(self, path: Path, episode: Episode) -> None:
        self._path = path
        self._episode = episode
        self._dataset: Any = None
        self._run = 0
        self._begins: list[dict[str, int]] = []

    def __enter__(self) -> LeRobotEpisode:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            if self._dataset is not None:
                with contextlib.suppress(Exception):
                    self._dataset.finalize()
            return
        if self._dataset is not None:
            self._save_episode()
            self._dataset.finalize()
            shutil.rmtree(self._path / 'images')  # empty folders, once its Parquet holds the images
        write_about(self._path, {**self._episode.metadata, 'lerobot': lerobot_version(), 'episodes': self._begins})

    def write(self, step: Step) -> None:
        """Append a step."""
        if self._dataset is None:
            self._dataset = self._create(step)
        if step.run != self._run:
            self._save_episode()
            self._run = step.run
        observation = step.observation
        if not self._begins or self._begins[-1]['run'] != step.run:
            self._begins.append({'run': step.run, 'stamp_ns': observation.stamp_ns, 'steps': 0})
        self._begins[-1]['steps'] += 1
        self._dataset.add_frame({**_frame(step), 'task': self._episode.task})

    def _create(self, step: Step) -> Any:
        spec = self._episode.spec
        sources = list(step.observation.stamps_ns)
        names: dict[str, Sequence[str] | None] = {
            'observation.state': spec.joint_names,
            'action': self._episode.action_names or None,
            _STAMPS: sources,
            'skews_ns': sources,
        }
        features: dict[str, dict[str, Any]] = {}
        for name, value in _frame(step).items():
            if value.shape == (1,):
                raise ConfigError(
                    f'lerobot cannot write {name}, since it is a vector of only one number; export to another format'
                )
            is_image = value.ndim == 3
            about = ['height', 'width', 'channels'] if is_image else names.get(name)
            features[name] = {
                'dtype': 'image' if is_image else str(value.dtype),
                'shape': value.shape,
                'names': about and list(about),
            }
        dataset = _lerobot().lerobot_dataset.LeRobotDataset.create(
            self._path.name, self._episode.rate_hz, features, root=self._path, use_videos=False, video_backend='pyav'
        )
        dataset.image_writer = _PngWriter()
        return dataset

    def _save_episode(self) -> None:
        with _sound_statistics(), _quietly():
            self._dataset.save_episode()


def _frame(step: Step) -> dict[str, NDArray[Any]]:
    observation = step.observation
    frame: dict[str, NDArray[Any]] = {
        f'observation.images.{camera}': image for camera, image in observation.camera_images.items()
    }
    frame |= {
        'observation.state': observation.joint_positions.astype(np.float32),
        'action': step.action.astype(np.float32),
        _STAMPS: np.array(list(observation.stamps_ns.values()), np.int64),
        'skews_ns': np.array(list(observation.skew_ns.values()), np.int64),
    }
    return frame if step.feature is None else {**frame, 'fused_feature': step.feature}


class _PngWriter:
    """In the place of lerobot's image writer, which prints what goes wrong and goes on."""

    def save_image(self, image: NDArray[np.uint8], fpath: Path, compress_level: int) -> None:
        _, png = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        fpath.write_bytes(png.tobytes())

    def wait_until_done(self) -> None:
        pass


def merge(bags: Mapping[str, Path], target: Path, about: Mapping[str, Any]) -> None:
    """Make one data set of those of bags, by their names; an earlier one of this package gives way.

    Raises:
        OutputError: when it cannot be written, or what stands there is none of this package.
    """
    with completed({'dataset': target}, force=True) as files, _quietly(), _cache_beside(files['dataset']):
        _lerobot().aggregate.aggregate_datasets(list(bags), target.name, list(bags.values()), files['dataset'])
        episodes = [{'bag': bag, **begin} for bag, folder in bags.items() for begin in read_about(folder)['episodes']]
        write_about(files['dataset'], {**about, 'lerobot': lerobot_version(), 'episodes': episodes})


def misfits(folders: Sequence[Path]) -> dict[Path, str]:
    """The data sets that cannot be merged with most of the others, and why."""
    infos = {folder: json.loads((folder / _INFO).read_text()) for folder in folders}
    kinds = {folder: _kind(info) for folder, info in infos.items()}
    alike: dict[str, list[Path]] = {}
    for folder, kind in kinds.items():
        alike.setdefault(json.dumps(kind), []).append(folder)
    usual = max(alike.values(), key=len, default=[])
    return {folder: _difference(kinds[folder], kinds[usual[0]]) for folder in folders if folder not in usual}


def _kind(info: Mapping[str, Any]) -> dict[str, Any]:
    return {'rate': info['fps'], **{name: [f['shape'], f['names']] for name, f in info['features'].items()}}


def _difference(own: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    if own['rate'] != usual['rate']:
        return f'it has {own["rate"]} steps per second, but most bags have {usual["rate"]}; choose one rate with --rate'
    name = next(name for name in (*usual, *own) if own.get(name) != usual.get(name))
    said = [' '.join(map(str, kinds.get(name, ['nothing']))) for kinds in (own, usual)]
    return f'its {name} is {said[0]}, but that of most bags is {said[1]}; export it into its own folder'


def refuse_foreign(folder: Path) -> None:
    """Raises OutputError when a folder is a data set of lerobot's, or holds one in the place of ours that is not."""
    for dataset in (folder, folder / 'dataset'):
        if (dataset / _INFO).exists() and not (dataset / ABOUT).exists():
            raise OutputError(f'{dataset} holds another data set, which would be lost; choose another folder')


def read_about(dataset: Path) -> dict[str, Any]:
    """What this package has said of a data set; empty where it has said nothing."""
    try:
        about: dict[str, Any] = json.loads((dataset / ABOUT).read_text())
    except (OSError, ValueError):
        return {}
    return about


def write_about(dataset: Path, about: Mapping[str, Any]) -> None:
    """See `read_about`."""
    path = dataset / ABOUT
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about, indent=1) + '\n')


def lerobot_version() -> str:
    """Of the package that is installed. Raises ConfigError for one with other internals than those that are corrected here."""
    version = importlib.metadata.version('lerobot')
    if not version.startswith('0.4.'):
        raise ConfigError(f"--to lerobot works with lerobot 0.4, but {version} is installed: pip install '.[lerobot]'")
    return version


def _lerobot() -> ModuleType:
    """lerobot.datasets, with what is used of it imported."""
    # Nothing here is for a hub, and a missing file must not become a download.
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    from tqdm import tqdm

    from fused_encoder_ros.model._torchvision import import_torchvision

    # tqdm's usual lock is one for several processes, of which one that is killed leaves its part.
    tqdm.set_lock(threading.RLock())
    import_torchvision()
    import lerobot.datasets.aggregate
    import lerobot.datasets.compute_stats
    import lerobot.datasets.lerobot_dataset

    return lerobot.datasets


@contextlib.contextmanager
def _replaced(module: ModuleType, **others: Any) -> Iterator[None]:
    """Functions of a module replaced for a while."""
    own = {name: getattr(module, name) for name in others}
    vars(module).update(others)
    try:
        yield
    finally:
        vars(module).update(own)


@contextlib.contextmanager
def _sound_statistics() -> Iterator[None]:
    """lerobot 0.4.4 squares numbers in their own type: uint8 images and stamps overflow, and the deviations are wrong."""
    datasets = _lerobot()
    sample, compute = datasets.compute_stats.sample_images, datasets.lerobot_dataset.compute_episode_stats

    def sample_images(paths: list[str]) -> NDArray[np.uint16]:
        return sample(paths).astype(np.uint16)

    def compute_episode_stats(data: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
        return compute({name: values for name, values in data.items() if name != _STAMPS}, features)

    with (
        _replaced(datasets.compute_stats, sample_images=sample_images),
        _replaced(datasets.lerobot_dataset, compute_episode_stats=compute_episode_stats),
    ):
        yield


@contextlib.contextmanager
def _cache_beside(target: Path) -> Iterator[None]:
    """lerobot reads Parquet through the cache of the datasets package, in the home folder, where nothing is ever removed."""
    import datasets

    aggregate = _lerobot().aggregate
    append = aggregate.append_or_create_parquet_file
    with tempfile.TemporaryDirectory(prefix='cache-', dir=target.parent) as cache:

        def append_or_create_parquet_file(*arguments: Any, **options: Any) -> Any:
            result = append(*arguments, **options)
            shutil.rmtree(cache, ignore_errors=True)
            return result

        with (
            _replaced(datasets.config, HF_DATASETS_CACHE=cache),
            _replaced(aggregate, append_or_create_parquet_file=append_or_create_parquet_file),
        ):
            yield
        Path(cache).mkdir(exist_ok=True)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Its bars and warnings are not for the reader: what goes wrong raises."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield
