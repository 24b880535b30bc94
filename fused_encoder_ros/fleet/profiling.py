"""Bags of training data to a profile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fused_encoder_ros.content.judgement import ContentFault, judge
from fused_encoder_ros.content.profile import Profile, ProfileMaker, merge
from fused_encoder_ros.content.reference import ENOUGH_BAGS, Reference
from fused_encoder_ros.errors import BagError, ConfigError, OutputError
from fused_encoder_ros.fleet.jobs import Report, greeting_of, keep_preview, made_of, parts_of, results_of, that_of
from fused_encoder_ros.fleet.manifest import DONE, Record, read_manifest
from fused_encoder_ros.fleet.storage import BagRef, file_system, is_remote, local_copy, written
from fused_encoder_ros.offline.bag import Bag
from fused_encoder_ros.offline.files import completed
from fused_encoder_ros.offline.observations import outcomes_of
from fused_encoder_ros.offline.tally import Tally
from fused_encoder_ros.pipeline.data import Observation
from fused_encoder_ros.settings import Settings

PROFILE = 'profile.npz'
"""Name of the profile of all bags, in the folder of the results."""


@dataclass(frozen=True)
class ProfileJob:
    """A bag to its profile, and all bags' profiles to one.

    Attributes:
        settings: the node's; with a checkpoint the profile has features.
        out: folder of the results, a path or an address.
    """

    settings: Settings
    out: str

    @property
    def threads(self) -> int:
        """Cores that a worker uses: only a few sets of a bag are encoded."""
        return 1

    @property
    def device(self) -> str:
        """See `Job`."""
        return self.settings.model.device if self.settings.values['checkpoint'] else 'cpu'

    def outputs(self, bag: BagRef) -> tuple[str, ...]:
        """See `Job`."""
        return (f'{bag.name}.{PROFILE}',)

    def worker(self) -> _Profiler:
        """A worker; it has a model where there is a checkpoint."""
        return _Profiler(self)

    def finish(self, made_with: Mapping[str, Any], done: Sequence[Record]) -> Mapping[BagRef, str]:
        """Merge the profiles of all bags."""
        merged: Profile | None = None
        misfits: dict[BagRef, str] = {}
        for record in sorted(done, key=lambda record: record.bag.name):
            name = record.outputs[0]
            one = Profile.from_bytes(_read(self.out, name), f'{self.out}/{name}')
            try:
                merged = merge([merged, one]) if merged else one
            except ConfigError as error:
                misfits[record.bag] = f'bag {record.bag.uri}: {error}'
        if merged:
            with results_of(self.out, PROFILE) as folder, completed({'profile': folder / PROFILE}, force=True) as files:
                files['profile'].write_bytes(merged.to_bytes())
        return misfits


def odd_bags(out: str) -> Iterator[tuple[BagRef, ContentFault]]:
    """Bags of a profile that do not look like the others, and why; none where there are too few to know.

    Args:
        out: the folder in which `ProfileJob` has written.

    Raises:
        ConfigError, OutputError: when a profile in it is missing or damaged.
    """
    done = [record for record in read_manifest(out)[1] if record.status == DONE]
    if len(done) < ENOUGH_BAGS:
        return
    reference = Reference(Profile.from_bytes(_read(out, PROFILE), f'{out}/{PROFILE}'))
    for record in done:
        name = record.outputs[0]
        one = Profile.from_bytes(_read(out, name), f'{out}/{name}')
        for fault in judge(one.looks(), reference):
            yield record.bag, fault


class _Profiler:
    def __init__(self, job: ProfileJob) -> None:
        self._job = job
        settings = job.settings
        self.made_with: dict[str, Any] = {'kind': 'profile', **made_of(settings)}
        self.greeting: tuple[str, ...] = ()
        self._model = None
        if settings.values['checkpoint']:
            from fused_encoder_ros.model import load_model

            self._model = load_model(settings.model, settings.spec)
            self.made_with['model'] = that_of(self._model)
            self.greeting = greeting_of(self._model)

    def do(self, bag: BagRef, replace: bool, report: Report) -> Mapping[str, Any]:
        """See `Worker`."""
        start_s = time.perf_counter()
        job, spec = self._job, self._job.settings.spec
        (output,) = job.outputs(bag)
        with local_copy(bag) as path, results_of(job.out, output) as folder:
            pipeline = job.settings.pipeline()
            maker = ProfileMaker(spec)
            pipeline.watch_motion(maker.meter)
            with Bag(path, job.settings.topics) as opened:
                tally = Tally(opened, pipeline)
                with closing(outcomes_of(opened, pipeline, parts_of(report))) as outcomes:
                    for outcome in outcomes:
                        tally.take(outcome)
                        if isinstance(outcome, Observation):
                            maker.see(outcome)
            figures = tally.figures()
            try:
                profile = maker.finish(*self._features(maker.observations))
            except ConfigError as error:
                drops, details = figures['drops'], figures['details']
                most = max(drops, key=lambda reason: drops[reason], default='')
                why = f'; most anchor frames were dropped because of {most}: {details[most]}' if most else ''
                raise BagError(f'bag {bag.uri}: {error}{why}') from error
            with completed({'profile': folder / Path(output).name}, replace) as files:
                files['profile'].write_bytes(profile.to_bytes())
            keep_preview(folder, bag, tally.middle)
        written_to = f'{job.out.rstrip("/")}/{output}'
        elapsed_s = time.perf_counter() - start_s
        return {'bag': bag.uri, 'output': written_to, **figures, 'elapsed_s': elapsed_s}

    def _features(self, observations: Sequence[Observation]) -> tuple[Any, str]:
        if self._model is None or not observations:
            return None, ''
        features = [self._model.encode(o.images[np.newaxis], o.joints[np.newaxis])[0] for o in observations]
        return np.stack(features), self._model.hash


def _read(out: str, name: str) -> bytes:
    if not is_remote(out):
        path = Path(out) / name
        if not path.is_file():
            raise OutputError(f'{path} is missing, but {out}/{PROFILE} is made from it; run again with that bag')
        return path.read_bytes()
    system, at = file_system(out)
    with written(out), system.open_input_stream(f'{at.rstrip("/")}/{name}') as stream:
        contents: bytes = stream.read()
    return contents
