"""`fused-encoder compare`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fused_encoder_ros.commands.common import EXIT_FAILED, EXIT_OK
from fused_encoder_ros.errors import ConfigError

if TYPE_CHECKING:
    from fused_encoder_ros.offline.compare import Comparison

_MOST_DIMENSIONS = 5

_EPILOG = """\
Exit code: 0 within the limits, or none given; 1 beyond a limit, or features that hold NaN or infinity;
2 bad usage, or files that cannot be compared.

--json prints one object:
  verdict              pass, fail, or note where no limit is given and not all is equal
  sentence             the verdict in words
  findings             the worst first, each with severity (fail, note), title, evidence, fix
  a, b                 each file: sets; alone, sets that the other one lacks, and how many of them lie outside
                       the other one (alone_outside); not_finite, sets with NaN or infinity; made_with
  sets, equal          sets in both; of them equal bit for bit
  figures              over the sets in both whose features are finite: sets; median, p99 and largest of the
                       largest difference of each; relative; cosine_median, cosine_least
  figures_same_inputs  the same of those that are known to be made of the same frames and joints
  worst_ns             stamp of the set with the largest difference
  dimensions_largest, dimensions_mean
                       by dimension: the largest difference, and the mean of B minus A
  inputs_known         sets in both of which both files say what they are made of
  other_inputs         of these, made of other frames or joints
  inputs               which of them differ: name, sets, largest in ms, rad or m
  made_with            what the files were made with differently: name, a, b
  over_time            begin_ns, part_s, and for each part largest, a_alone, b_alone, other_inputs
"""


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    compare = commands.add_parser(
        'compare',
        help='say how far the features of two files are apart, and why',
        description='Compare the features of two files, set by set at equal stamps: of two checkpoints, engines or machines, '
        "or of a robot's recording and the same bag encoded at the desk. Also told: sets that only one has, sets of other "
        'frames or joints, and what the files were made with differently. Both are held in memory, 1.5 KB a set.',
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ('a', 'b'):
        compare.add_argument(
            name,
            type=Path,
            metavar=name.upper(),
            help="Parquet file of `encode`, or a bag with the node's topic fused_feature_stamped; with its topic sets the "
            'frames and joints are compared too',
        )
    compare.add_argument(
        '--topic',
        default='',
        metavar='TOPIC',
        help='topic of the features in a bag (default: the one that ends with fused_feature_stamped)',
    )
    compare.add_argument(
        '--max-difference',
        type=float,
        metavar='X',
        help='limit: the largest absolute difference of any value; 0 asks for equal ones',
    )
    compare.add_argument('--min-cosine', type=float, metavar='X', help='limit: the smallest cosine of any set')
    compare.add_argument('--same-sets', action='store_true', help='limit: both files have the same stamps')
    compare.add_argument(
        '--html', type=Path, metavar='FILE', help='also write one page on the comparison; it replaces an earlier one'
    )
    compare.add_argument('--json', action='store_true', help='print the verdict and every figure as JSON')
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from fused_encoder_ros.diagnosis.rules.findings import Severity
    from fused_encoder_ros.offline.compare import KIND, Limits, compare, judge, read_recorded, write_page
    from fused_encoder_ros.offline.report.layout import check_replaceable

    if options.max_difference is not None and not options.max_difference >= 0:
        raise ConfigError(f'--max-difference: {options.max_difference:g} is not usable; use at least 0')
    if options.min_cosine is not None and not -1 <= options.min_cosine <= 1:
        raise ConfigError(f'--min-cosine: {options.min_cosine:g} is not within -1 to 1')
    if options.html:
        check_replaceable(options.html, KIND)
    comparison = compare(read_recorded(options.a, options.topic), read_recorded(options.b, options.topic))
    verdict = judge(comparison, Limits(options.max_difference, options.min_cosine, options.same_sets))
    if options.html:
        write_page(comparison, verdict, options.html)
    if options.json:
        print(json.dumps({**verdict.to_dict(), **comparison.to_dict()}, indent=2))
    else:
        print('\n'.join([str(verdict), *_lines(comparison)]))
        if options.html:
            print(f'  wrote       {options.html}')
    return EXIT_FAILED if verdict.severity is Severity.FAIL else EXIT_OK


def _lines(comparison: Comparison) -> list[str]:
    import numpy as np

    from fused_encoder_ros.diagnosis.wording import count
    from fused_encoder_ros.offline.compare.verdict import cosine, number

    a, b, figures = comparison.a, comparison.b, comparison.figures
    lines = [
        f'  sets        {count(comparison.sets)} in both, {count(comparison.equal)} of them equal bit for bit; '
        f'{count(a.alone)} only in A, {count(b.alone)} only in B'
    ]
    if figures is None or not figures.largest:
        return lines
    largest = comparison.dimensions_largest
    worst = [index for index in np.argsort(largest)[::-1][:_MOST_DIMENSIONS].tolist() if largest[index]]
    since_s = ((comparison.worst_ns or 0) - comparison.over_time.begin_ns) / 1e9
    return [
        *lines,
        f'  difference  {number(figures.median)} median, {number(figures.p99)} 99 %, {number(figures.largest)} largest',
        f'  relative    {number(figures.relative)} largest, to the largest value of the set in A',
        f'  cosine      {cosine(figures.cosine_median)} median, {cosine(figures.cosine_least)} smallest',
        f'  dimensions  {", ".join(f"{index} ({number(largest[index])})" for index in worst)}',
        f'  worst set   {comparison.worst_ns} ns, {since_s:.3f} s after the first',
    ]
