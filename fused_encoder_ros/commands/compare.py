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
Exit code: 0 all limits hold, or none is given; 1 a limit does not hold, or features contain NaN or infinity;
2 bad usage, or files that cannot be compared.

--json prints one object:
  verdict              pass, fail, or note if no limit is given and not everything is equal
  sentence             the verdict in words
  findings             the worst first, each with severity (fail, note), title, evidence, fix
  a, b                 about each file: sets; alone, the sets that the other file lacks; alone_outside, those of
                       them before or after the other file; not_finite, sets with NaN or infinity; made_with
  sets, equal          number of sets in both files, and how many of them are equal bit for bit
  figures              of the sets in both files without NaN and infinity: sets; median, p99 and largest of the
                       largest difference of each set; relative; cosine_median, cosine_least
  figures_same_inputs  the same for the sets that are known to be made from the same frames and joints
  worst_ns             stamp of the set with the largest difference
  dimensions_largest, dimensions_mean
                       for each dimension: the largest difference, and the mean of B minus A
  inputs_known         number of sets for which both files say what they are made from
  other_inputs         how many of these are made from different frames or joints
  inputs               the inputs that differ: name, sets, largest difference in ms, rad or m
  made_with            the settings that differ: name, a, b
  over_time            begin_ns, part_s, and for each part largest, a_alone, b_alone, other_inputs
"""


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    compare = commands.add_parser(
        'compare',
        help='show how far the features of two files are apart, and why',
        description='Compare the features of two files, set by set at equal stamps: for example of two checkpoints, engines '
        'or machines, or those that the robot recorded with those of the same bag encoded here. The result also lists sets '
        'that only one file has, sets made from different frames or joints, and settings that differ. Both files are held in '
        'memory, about 1.5 KB for each set.',
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ('a', 'b'):
        compare.add_argument(
            name,
            type=Path,
            metavar=name.upper(),
            help="Parquet file from `encode`, or a bag with the node's topic fused_feature_stamped; if the bag also has the "
            'topic sets, frames and joints are compared too',
        )
    compare.add_argument(
        '--topic',
        default='',
        metavar='TOPIC',
        help='topic of the features in a bag (default: the one whose name ends with fused_feature_stamped)',
    )
    compare.add_argument(
        '--max-difference',
        type=float,
        metavar='X',
        help='fail if any two values differ by more than X; 0 requires equal values',
    )
    compare.add_argument(
        '--min-cosine', type=float, metavar='X', help='fail if the cosine similarity of any set is less than X'
    )
    compare.add_argument('--same-sets', action='store_true', help='fail if one file has a set that the other lacks')
    compare.add_argument(
        '--html', type=Path, metavar='FILE', help='also write the comparison as an HTML page; an earlier page is replaced'
    )
    compare.add_argument('--json', action='store_true', help='print the verdict and all figures as JSON')
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from fused_encoder_ros.diagnosis.rules.findings import Severity
    from fused_encoder_ros.offline.compare import KIND, Limits, compare, judge, read_recorded, write_page
    from fused_encoder_ros.offline.report.layout import check_replaceable

    if options.max_difference is not None and not options.max_difference >= 0:
        raise ConfigError(f'--max-difference: {options.max_difference:g} is out of range; use 0 or more')
    if options.min_cosine is not None and not -1 <= options.min_cosine <= 1:
        raise ConfigError(f'--min-cosine: {options.min_cosine:g} is out of range; use -1 to 1')
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
