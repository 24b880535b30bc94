"""`fused-encoder run-report`."""

from __future__ import annotations

import argparse
from pathlib import Path, PurePosixPath
from typing import Any

from fused_encoder_ros.commands.common import EXIT_OK

_MOST_TOLD = 10


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    report = commands.add_parser(
        'run-report',
        help='write an HTML page about all bags of a run: which failed, and which stand out',
        description='Write one self-contained HTML page about a folder that `encode` or `export` has written, or is still '
        'writing. An earlier page is replaced; any other file is not.',
        epilog='Exit code: 0 done, 2 bad usage, or the folder does not exist.',
    )
    report.add_argument('folder', metavar='DIR', help='folder of the results, or an address such as s3://bucket/folder')
    report.add_argument('--out', type=Path, metavar='HTML', help='file to write (default: <folder>_run_report.html)')
    report.set_defaults(run=_run_report)


def _run_report(options: argparse.Namespace) -> int:
    from fused_encoder_ros.diagnosis.wording import printable
    from fused_encoder_ros.fleet.report import report_run
    from fused_encoder_ros.fleet.storage import check_address, is_remote

    folder = options.folder
    check_address('DIR', folder)
    path = PurePosixPath(folder.partition('?')[0]) if is_remote(folder) else Path(folder).resolve()
    out = options.out or Path(f'{path.name}_run_report.html')
    overview = report_run(folder, out)
    print(overview.sentence)
    reasons = overview.comparison.reasons
    for name in list(reasons)[:_MOST_TOLD]:
        print(printable(f'  {name}: {"; ".join(reason.sentence for reason in reasons[name])}'))
    if len(reasons) > _MOST_TOLD:
        print(f'  and {len(reasons) - _MOST_TOLD} more')
    print(f'  wrote    {out}')
    return EXIT_OK
