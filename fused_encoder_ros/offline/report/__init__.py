"""The sync report: how well a bag synchronises, as facts, a verdict and a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fused_encoder_ros.diagnosis.facts.facts import Facts, gather
from fused_encoder_ros.diagnosis.rules.findings import Finding, Severity, Verdict
from fused_encoder_ros.diagnosis.rules.rules import judge
from fused_encoder_ros.offline.bag import Bag
from fused_encoder_ros.offline.files import completed
from fused_encoder_ros.offline.report.page import render
from fused_encoder_ros.settings import Settings

__all__ = ['Facts', 'Finding', 'Severity', 'Verdict', 'gather', 'judge', 'render', 'report_bag']


def report_bag(
    path: Path,
    out: Path,
    settings: Settings,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Facts, Verdict]:
    """Write the report of one bag to the HTML file `out`. What the bag lacks is part of the report.

    Raises:
        BagError: when the bag cannot be read; nothing is written then.
        OutputError: when the output exists or cannot be written.
    """
    with Bag(path, settings.topics, require_all=False) as bag, completed({'page': out}, force) as output:
        facts = gather(bag, settings, progress)
        verdict = judge(facts)
        output['page'].write_text(render(facts, verdict), encoding='utf-8')
    return facts, verdict
