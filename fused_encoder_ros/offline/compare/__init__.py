"""Two files of features against each other: figures, a verdict, and a page."""

from __future__ import annotations

from pathlib import Path

from fused_encoder_ros.diagnosis.rules.findings import Verdict
from fused_encoder_ros.offline.compare.comparison import Comparison, compare
from fused_encoder_ros.offline.compare.page import KIND, render
from fused_encoder_ros.offline.compare.recorded import read_recorded
from fused_encoder_ros.offline.compare.verdict import Limits, judge
from fused_encoder_ros.offline.files import completed
from fused_encoder_ros.offline.report.layout import check_replaceable

__all__ = ['KIND', 'Comparison', 'Limits', 'compare', 'judge', 'read_recorded', 'write_page']


def write_page(comparison: Comparison, verdict: Verdict, out: Path) -> None:
    """Write the comparison to the HTML file `out`, and replace an earlier one.

    Raises:
        OutputError: when something else stands there, or it cannot be written.
    """
    check_replaceable(out, KIND)
    with completed({'page': out}, force=True) as output:
        output['page'].write_text(render(comparison, verdict), encoding='utf-8')
