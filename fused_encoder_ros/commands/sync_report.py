"""`fused-encoder sync-report`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fused_encoder_ros.commands.common import EXIT_FAILED, EXIT_OK, add_parameters, parameter_values, progress_bar


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    report = commands.add_parser(
        'sync-report',
        help='write an HTML page that shows how well the streams of a bag match in time, and how to improve it',
        description='Run the pipeline of the node on a bag, and write one self-contained HTML page about how well its streams '
        'match in time.',
        epilog='Exit code: 0 pass or warning, 1 fail, 2 bad usage or a bag that cannot be read.',
    )
    report.add_argument('bag', type=Path, metavar='BAG', help='.bag file, rosbag2 folder, .mcap or .db3 file')
    report.add_argument('--out', type=Path, metavar='HTML', help='file to write (default: <bag>_sync_report.html)')
    add_parameters(report)
    report.add_argument('--json', action='store_true', help='print the verdict and all facts as JSON')
    report.add_argument('--force', action='store_true', help='replace an existing page')
    report.set_defaults(run=_sync_report)


def _sync_report(options: argparse.Namespace) -> int:
    from fused_encoder_ros.offline.bag import bag_name
    from fused_encoder_ros.offline.report import Severity, report_bag
    from fused_encoder_ros.settings import Settings

    settings = Settings.from_values(parameter_values(options))
    out = options.out or Path(f'{bag_name(options.bag)}_sync_report.html')
    with progress_bar(options.bag) as progress:
        facts, verdict = report_bag(options.bag, out, settings, force=options.force, progress=progress)
    if options.json:
        print(json.dumps({**verdict.to_dict(), **facts.to_dict()}, indent=2))
    else:
        print(f'{verdict}\n  wrote    {out}')
    return EXIT_FAILED if verdict.severity is Severity.FAIL else EXIT_OK
