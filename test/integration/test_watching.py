"""The layout for Foxglove and the reference of topics name what the node publishes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from live import Desk
from robot import image, ready, send_sets

from fused_encoder_ros.pipeline.outputs import STAGES
from fused_encoder_ros.spec import CAMERAS

ROOT = Path(__file__).parents[2]
LAYOUT = json.loads((ROOT / 'config' / 'foxglove_layout.json').read_text())
REFERENCE = (ROOT / 'docs' / 'reference' / 'topics.md').read_text()
IN_STATUS = re.compile(r'/diagnostics\.status\[:\]\{name=="fused_encoder: (.+)"\}\.values\[:\]\{key=="(.+)"\}\.value')
IN_FEATURE = re.compile(r'/fused_encoder/fused_feature\.data\[(\d+)\]')


def texts(node: Any) -> Iterator[str]:
    """Every string value in a tree of JSON."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, (dict, list)):
        for child in node.values() if isinstance(node, dict) else node:
            yield from texts(child)


def test_every_panel_of_the_layout_is_configured() -> None:
    placed = [text for text in texts(LAYOUT['layout']) if '!' in text]
    assert sorted(placed) == sorted(LAYOUT['configById'])


def documented(table: str) -> set[str]:
    """The keys in the first column of a table of the reference; a word in capitals stands for any."""
    return {key for row in table.splitlines() for key in re.findall(r'`([^`]+)`', row.split('|')[1])}


def general(keys: Iterable[str]) -> set[str]:
    """Keys as the reference writes them."""
    sources, stages = '|'.join((*CAMERAS, 'joint_states')), '|'.join(STAGES)
    return {re.sub(rf'(?<=: )({stages})(?= p)', 'STAGE', re.sub(rf'(?<=: )({sources})$', 'SOURCE', key)) for key in keys}


def test_layout_and_reference_name_what_the_node_publishes(desk: Desk) -> None:
    ready(desk)
    send_sets(desk, 0, 20)
    desk.wait(lambda: desk.plain and desk.status('encoder')[2]['latency_ms: total p95'] not in ('', 'n/a'), 'a latency')
    topics = {name for name, _ in desk.node.get_topic_names_and_types()}
    paths = [text for text in texts(LAYOUT['configById']) if text.startswith('/')]
    assert {path.split('.')[0] for path in paths} <= topics

    plotted = [path for path in paths if '.' in path]
    assert plotted
    for path in plotted:
        if match := IN_STATUS.fullmatch(path):
            name, key = match.groups()
            float(desk.status(name)[2][key])
        else:
            component = IN_FEATURE.fullmatch(path)
            assert component and int(component[1]) < len(desk.plain[0].data), path

    for status, source in (('encoder', 'encoder'), ('input', 'global')):
        (table,) = re.findall(rf'<!-- keys of {status}: .*? -->\n(.*?)<!-- end of keys of {status} -->', REFERENCE, re.DOTALL)
        told = {key for key in documented(table) if not key.endswith('REASON')}
        assert general(desk.status(source)[2]) == told

    desk.publishers['/global/image'].publish(image(0))  # not after an earlier set
    desk.wait(desk.drops, 'a drop')
    for report, begin in ((desk.reports[0], 'it has these keys:'), (desk.reports[-1], 'For a drop:')):
        table = REFERENCE.partition(begin)[2].strip().partition('\n\n')[0]
        assert set(report) == documented(table)
