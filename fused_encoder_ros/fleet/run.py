"""A job over many bags: what is missing is done, what became of each bag is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fused_encoder_ros.errors import BagError
from fused_encoder_ros.fleet.events import Begun, Done, Event, Failed, Planned, Ready, Tell
from fused_encoder_ros.fleet.jobs import Job
from fused_encoder_ros.fleet.manifest import BEGUN, DONE, FAILED, Manifest, Record
from fused_encoder_ros.fleet.storage import BagRef, existing, is_remote
from fused_encoder_ros.offline.files import clear_leftovers


class Workers(Protocol):
    """Where workers live."""

    def start(self) -> Ready:
        """Make the first ready. Raises FusedEncoderError."""

    def do(self, bags: Sequence[tuple[BagRef, bool]], tell: Tell) -> None:
        """Have bags done, each with whether its results may be replaced. Every bag ends as one `Done` or one `Failed`."""

    def stop(self) -> None:
        """End all work at once; what was begun is given up."""


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        done, failed: what this run did, in the order in which it ended.
        skipped: what an earlier run had done, and has not changed since.
    """

    done: list[Record]
    failed: list[Record]
    skipped: list[Record]


def run_job(
    job: Job,
    bags: Sequence[BagRef],
    workers: AbstractContextManager[Workers],
    *,
    force: bool = False,
    strict: bool = False,
    watch: Tell = lambda event: None,
) -> Outcome:
    """Do what is missing of a job.

    Args:
        job: what is done.
        bags: with which bags.
        workers: who does it.
        force: do everything anew.
        strict: stop at the first bag that fails.
        watch: is told what happens.

    Raises:
        FusedEncoderError: when nothing can be done at all, or another run uses the folder.
        BagError: with `strict`, of the bag that failed.
    """
    outcome = Outcome([], [], [])
    with workers as hands:
        ready = hands.start()
        watch(ready)
        with Manifest(job.out, ready.made_with, anew=force) as manifest:
            _clear(job.out)

            def tell(event: Event) -> None:
                if isinstance(event, Begun):
                    manifest.add(Record(event.bag, BEGUN))
                elif isinstance(event, Done):
                    outcome.done.append(Record(event.bag, DONE, '', job.outputs(event.bag), event.summary))
                    manifest.add(outcome.done[-1])
                elif isinstance(event, Failed):
                    outcome.failed.append(Record(event.bag, FAILED, event.reason))
                    manifest.add(outcome.failed[-1])
                watch(event)
                if isinstance(event, Failed) and strict:
                    raise BagError(f'stopped because {event.bag.uri} failed: {event.reason}')

            there = existing(job.out, [name for bag in bags for name in job.outputs(bag)])
            missing: list[tuple[BagRef, bool]] = []
            for bag in bags:
                own = [name for name in job.outputs(bag) if name in there]
                if manifest.is_done(bag) and len(own) == len(job.outputs(bag)):
                    outcome.skipped.append(manifest.records[bag.name])
                elif own and not force and not manifest.may_replace(bag):
                    tell(Failed(bag, f'{job.out}/{own[0]} exists already; use --force to replace it, or choose another place'))
                else:
                    missing.append((bag, force or manifest.may_replace(bag)))
            watch(Planned(tuple(bag for bag, _ in missing)))
            try:
                hands.do(missing, tell)
                done = [record for record in manifest.records.values() if record.status == DONE]
                for bag, reason in job.finish(ready.made_with, done).items():
                    for records in (outcome.done, outcome.skipped):
                        records[:] = [record for record in records if record.bag != bag]
                    tell(Failed(bag, reason))
            finally:
                hands.stop()
                _clear(job.out)
    return outcome


def _clear(out: str) -> None:
    if not is_remote(out):
        clear_leftovers(Path(out))
