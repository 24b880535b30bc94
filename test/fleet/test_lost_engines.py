"""Workers whose engine fails, as with a lost GPU: real processes that do a job of the test's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fused_encoder_ros.errors import EngineError, EngineUnavailable, FusedEncoderError
from fused_encoder_ros.fleet.events import Event, Lost
from fused_encoder_ros.fleet.jobs import Report
from fused_encoder_ros.fleet.local import LocalWorkers
from fused_encoder_ros.fleet.manifest import Record
from fused_encoder_ros.fleet.run import Outcome, run_job
from fused_encoder_ros.fleet.storage import BagRef

BAGS = [BagRef(f'/bags/{name}', name, 1, 1) for name in 'abcdef']


@dataclass(frozen=True)
class OnGpu:
    """A bag gives an empty file, on a GPU that can be lost.

    Attributes:
        at: the bag at which the GPU is lost.
        for_ever: whether each process loses it at that bag; otherwise only the first.
        deaths: how many processes die before they are ready.
        then: what a process that starts later finds: `gpu`, `cpu` or nothing.
    """

    out: str
    at: str
    for_ever: bool = False
    deaths: int = 0
    then: str = 'gpu'
    threads: int = 1
    device: str = 'auto'

    @property
    def lost(self) -> Path:
        return Path(self.out) / 'lost'

    def outputs(self, bag: BagRef) -> tuple[str, ...]:
        return (bag.name,)

    def worker(self) -> OnGpuWorker:
        return OnGpuWorker(self)

    def finish(self, made_with: Mapping[str, Any], done: Sequence[Record]) -> Mapping[BagRef, str]:
        return {}


class OnGpuWorker:
    greeting = ()

    def __init__(self, job: OnGpu) -> None:
        self.job = job
        if len(list(Path(job.out).glob('dead-*'))) < job.deaths:
            (Path(job.out) / f'dead-{os.getpid()}').touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.made_with: Mapping[str, Any] = {'model': {'device': job.then if job.lost.exists() else 'gpu'}}
        if job.lost.exists() and not job.then:
            raise EngineUnavailable('no GPU any more')
        self.is_lost = False

    def do(self, bag: BagRef, replace: bool, report: Report) -> Mapping[str, Any]:
        if bag.name == self.job.at and (self.job.for_ever or not self.job.lost.exists()):
            self.job.lost.touch()
            self.is_lost = True
        if self.is_lost:
            raise EngineError('the engine failed: device lost')
        (Path(self.job.out) / bag.name).touch()
        return {}


def run(job: OnGpu, workers: int = 1) -> tuple[Outcome, list[str]]:
    events: list[Event] = []
    outcome = run_job(job, BAGS, LocalWorkers(job, workers), watch=events.append)
    return outcome, [event.reason for event in events if isinstance(event, Lost)]


def names(records: list[Any]) -> str:
    return ''.join(sorted(record.bag.name for record in records))


def test_a_lost_gpu_costs_no_bag(tmp_path: Path) -> None:
    outcome, lost = run(OnGpu(str(tmp_path), at='b'))
    assert names(outcome.done) == 'abcdef' and not outcome.failed
    assert lost == ['bag /bags/b: the engine failed: device lost; the bag is tried again']


def test_a_worker_that_dies_before_it_is_ready_is_replaced(tmp_path: Path) -> None:
    outcome, _ = run(OnGpu(str(tmp_path), at='', deaths=2))
    assert names(outcome.done) == 'abcdef'
    with pytest.raises(FusedEncoderError, match=r'the worker was killed \(SIGKILL\)'):
        run(OnGpu(str(tmp_path), at='', deaths=5))


def test_a_bag_that_breaks_every_engine_fails_alone(tmp_path: Path) -> None:
    outcome, lost = run(OnGpu(str(tmp_path), at='b', for_ever=True), workers=2)
    assert names(outcome.done) == 'acdef' and len(lost) == 2
    (failed,) = outcome.failed
    assert failed.reason == 'bag /bags/b: the engine failed: device lost; this happened 3 times'


@pytest.mark.parametrize(('then', 'says'), [('', 'no GPU any more'), ('cpu', 'model.device "gpu", now "cpu"')])
def test_without_a_gpu_the_others_go_on_and_none_takes_the_cpu(tmp_path: Path, then: str, says: str) -> None:
    """Features of another device have other last bits: a worker that has fallen back to it must not add to them."""
    job = OnGpu(str(tmp_path), at='b', then=then)
    with pytest.raises(Exception, match=says):
        run(job)
    assert (tmp_path / 'a').exists() and not (tmp_path / 'c').exists()
