"""What the commands that do many bags share: which bags, where to, how many at once, and what is said of it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fused_encoder_ros.commands.common import EXIT_BAD_INPUT, EXIT_OK, raise_if_interrupted
from fused_encoder_ros.errors import ConfigError

if TYPE_CHECKING:
    from fused_encoder_ros.fleet.events import Tell
    from fused_encoder_ros.fleet.jobs import Job
    from fused_encoder_ros.fleet.manifest import Record
    from fused_encoder_ros.fleet.run import Outcome, Workers
    from fused_encoder_ros.fleet.storage import BagRef

_MOST_TOLD_ONE_BY_ONE = 10


def add_run_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say which bags are done, and how."""
    command.add_argument(
        'bags',
        nargs='+',
        metavar='BAG',
        help='.bag file, rosbag2 folder, .mcap or .db3 file; also a folder that contains some, a pattern such as "monday_*", '
        'or an address such as s3://bucket/folder',
    )
    command.add_argument(
        '--out', required=True, metavar='DIR', help='folder for the results, or an address such as s3://bucket/folder'
    )
    command.add_argument(
        '--workers',
        type=int,
        metavar='N',
        help='number of bags processed at the same time (default: as many as cores and memory allow)',
    )
    command.add_argument(
        '--on',
        metavar='CLUSTER',
        help='process the bags in a Ray cluster: ray://HOST:10001 from outside it, HOST:6379 from one of its machines, or ray '
        'for the one in RAY_ADDRESS, or without that a new one on this machine (default: no cluster, only this machine)',
    )
    command.add_argument('--strict', action='store_true', help='stop at the first bag that fails')
    command.add_argument('--force', action='store_true', help='process all bags again, and replace existing results')
    command.add_argument(
        '--html',
        type=Path,
        metavar='FILE',
        help='also write the run report of DIR, an HTML page about all its bags; an earlier page is replaced',
    )
    command.add_argument('--json', action='store_true', help='print the result of each bag as JSON')


def run(options: argparse.Namespace, job: Job, format_summary: Callable[[Record], str]) -> int:
    """Do the job, and say what became of it; the exit code."""
    from fused_encoder_ros.fleet.report import KIND, report_run
    from fused_encoder_ros.fleet.run import run_job
    from fused_encoder_ros.fleet.storage import check_address, find_bags
    from fused_encoder_ros.offline.report.layout import check_replaceable

    if options.workers is not None and options.workers < 1:
        raise ConfigError(f'--workers: {options.workers} is too small; use at least 1')
    check_address('--out', options.out)
    if options.html:
        check_replaceable(options.html, KIND)
    bags = find_bags(options.bags)
    workers = _workers(options, job, bags)
    start_s = time.monotonic()
    with _progress_bar() as watch:
        outcome = run_job(job, bags, workers, force=options.force, strict=options.strict, watch=watch)
    if options.html:
        report_run(job.out, options.html)
    if options.json:
        print(json.dumps([_as_json(record) for record in (*outcome.done, *outcome.failed, *outcome.skipped)], indent=2))
    else:
        _tell(outcome, time.monotonic() - start_s, format_summary)
        if options.html:
            print(f'wrote {options.html}')
    for record in outcome.failed:
        print(f'fused-encoder: {record.reason}', file=sys.stderr)
    return EXIT_BAD_INPUT if outcome.failed else EXIT_OK


def _workers(options: argparse.Namespace, job: Job, bags: Sequence[BagRef]) -> AbstractContextManager[Workers]:
    from fused_encoder_ros.fleet.local import LocalWorkers, OneHere, usual_workers
    from fused_encoder_ros.fleet.on_ray import RayWorkers, cluster_address

    if options.on:
        return RayWorkers(job, cluster_address(options.on), bags, options.workers)
    return OneHere(job) if len(bags) == 1 else LocalWorkers(job, options.workers or usual_workers(job.threads))


def _as_json(record: Record) -> dict[str, Any]:
    return {'bag': record.bag.uri, 'status': record.status, 'reason': record.reason, **record.summary}


def _tell(outcome: Outcome, elapsed_s: float, format_summary: Callable[[Record], str]) -> None:
    if len(outcome.done) <= _MOST_TOLD_ONE_BY_ONE:
        for record in outcome.done:
            print(format_summary(record), end='\n\n')
    for record in outcome.done:
        if not record.summary.get('sets', 1):
            print(f'WARNING: {record.bag.uri} gave no sets; the reasons of the drops say why', file=sys.stderr)
    _tell_content(outcome.done)
    counts = {'done': outcome.done, 'failed': outcome.failed, 'done by an earlier run': outcome.skipped}
    said = ', '.join(f'{len(records)} {name}' for name, records in counts.items() if records or name == 'done')
    sets = sum(record.summary.get('sets', 0) for record in outcome.done)
    size = sum(record.bag.size for record in outcome.done)
    print(f'bags: {said}; {sets} sets from {size / 1e9:.2f} GB in {elapsed_s:.1f} s')


def _tell_content(done: Sequence[Record]) -> None:
    """Faults in what the data of the first few bags show."""
    faulty = [record for record in done if record.summary.get('content')]
    for record in faulty[:_MOST_TOLD_ONE_BY_ONE]:
        for told in record.summary['content']:
            print(f'WARNING: {record.bag.uri}: {told["title"]} ({told["evidence"]}). {told["fix"]}', file=sys.stderr)
    if more := faulty[_MOST_TOLD_ONE_BY_ONE:]:
        text = f'{len(more)} more bags do not look like the training data; `fused-encoder run-report` lists them'
        print(f'WARNING: {text}', file=sys.stderr)


@contextmanager
def _progress_bar() -> Iterator[Tell]:
    """A bar of bytes on a terminal, which knows the time left; yields what is told of the run."""
    from tqdm import tqdm

    from fused_encoder_ros.fleet.events import Done, Event, Failed, Lost, Planned, Progress, Ready

    parts: dict[str, float] = {}
    ended = planned = 0
    greeting: tuple[str, ...] = ()
    with tqdm(unit='B', unit_scale=True, file=sys.stderr, disable=None, leave=False) as bar:

        def watch(event: Event) -> None:
            nonlocal ended, planned, greeting
            raise_if_interrupted()
            if isinstance(event, Ready):
                greeting = event.greeting
            elif isinstance(event, Lost):
                tqdm.write(f'WARNING: {event.reason}', file=sys.stderr)
            elif isinstance(event, Planned):
                planned = len(event.bags)
                bar.reset(sum(bag.size for bag in event.bags))
            elif isinstance(event, (Progress, Done, Failed)):
                if not isinstance(event, Failed):  # what is said of the encoder concerns nobody whose bags cannot be read
                    for line in greeting:
                        tqdm.write(line, file=sys.stderr)
                    greeting = ()
                part = event.part if isinstance(event, Progress) else 1.0
                bar.update((part - parts.get(event.bag.uri, 0.0)) * event.bag.size)
                parts[event.bag.uri] = part
                ended += not isinstance(event, Progress)
                bar.set_description(f'{ended}/{planned} bags')

        yield watch


def lost(summary: Mapping[str, Any]) -> list[str]:
    """Lines on the anchor frames without a set, and on other messages that were not used."""
    lines = [f'  drops    {sum(summary["drops"].values())}', *counted(summary['drops'], summary['details'])]
    if summary['rejects']:
        lines.append(f'  messages not used  {sum(summary["rejects"].values())}')
        lines += counted(summary['rejects'], summary['details'])
    return lines


def counted(counts: Mapping[str, int], details: Mapping[str, str]) -> list[str]:
    """A line for each reason: how often, and the last sentence for it."""
    return [f'    {count:>6}  {reason}: {details.get(reason, "")}' for reason, count in counts.items()]
