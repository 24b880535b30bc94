"""The layout for Foxglove in config/ shows what the node publishes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from live import Desk
from test_node import ready, send_sets

LAYOUT = json.loads((Path(__file__).parents[2] / 'config' / 'foxglove_layout.json').read_text())
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


def test_every_topic_and_value_of_the_layout_exists(desk: Desk) -> None:
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
