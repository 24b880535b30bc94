"""The run report: what became of the bags of a run, and which stand out, on one page."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from fused_encoder_ros.fleet.manifest import DONE, Record, read_manifest
from fused_encoder_ros.fleet.report.overview import Overview
from fused_encoder_ros.fleet.report.page import KIND, render
from fused_encoder_ros.fleet.storage import content_of
from fused_encoder_ros.offline.files import completed
from fused_encoder_ros.offline.preview import preview_name
from fused_encoder_ros.offline.report.layout import check_replaceable

__all__ = ['KIND', 'Overview', 'report_run']


def report_run(folder: str, out: Path) -> Overview:
    """Write the page on a folder of results, a path or an address, to the HTML file `out`, and replace an earlier one.

    A folder in use may be reported on too: the page tells what is done so far.

    Raises:
        ConfigError: when the folder's manifest is of another version of the package.
        OutputError: when the folder has no manifest, or the page cannot be written.
    """
    check_replaceable(out, KIND)
    overview = Overview(folder, *read_manifest(folder))
    done = {record.bag.name: record for record in overview.of(DONE)}
    previews = {name: content_of(folder, _preview_of(done[name])) for name in overview.shown}
    with completed({'page': out}, force=True) as output:
        output['page'].write_text(render(overview, previews), encoding='utf-8')
    return overview


def _preview_of(record: Record) -> str:
    """A worker leaves it beside the bag's results."""
    return preview_name(str(PurePosixPath(record.outputs[0]).with_name(PurePosixPath(record.bag.name).name)))
