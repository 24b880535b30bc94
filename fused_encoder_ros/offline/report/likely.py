"""Which topic a person may have meant, for a source whose own is not in the bag."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from fused_encoder_ros.offline.bag import COMPRESSED_IMAGE, IMAGE, JOINT_STATE, Topic
from fused_encoder_ros.offline.report.facts import Facts
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.settings import absolute, is_compressed

_HINTS = {
    'left_wrist': {'left', 'l', 'wrist', 'hand', 'gripper', 'arm'},
    'right_wrist': {'right', 'r', 'wrist', 'hand', 'gripper', 'arm'},
    'global': {'global', 'top', 'head', 'front', 'overhead', 'scene', 'external', 'high', 'base', 'third', 'main'},
    JOINTS: {'joint', 'joints', 'states', 'state', 'arm'},
}
_SIDES = {'left': {'left', 'l'}, 'right': {'right', 'r'}}
_NO_PICTURES = {'depth', 'infra', 'infra1', 'infra2', 'mask', 'rect'}


def likely_topics(facts: Facts) -> dict[str, str]:
    """For each source without a topic the topic that is most like it, each topic once."""
    free = {source for source, stream in facts.streams.items() if stream.problem}
    used = {absolute(stream.topic) for stream in facts.streams.values() if not stream.problem}
    topics = [topic for topic in facts.topics if topic.messages and topic.name not in used]
    pairs = [(_likeness(source, t.name), source, t.name) for source in free for t in topics if _fits(source, t)]
    likely: dict[str, str] = {}
    for _, source, name in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        if source not in likely and name not in likely.values():
            likely[source] = name
    return {source: likely[source] for source in facts.streams if source in likely}


def _fits(source: str, topic: Topic) -> bool:
    if source == JOINTS:
        return topic.kind == JOINT_STATE
    return topic.kind == (COMPRESSED_IMAGE if is_compressed(topic.name) else IMAGE)


def _likeness(source: str, name: str) -> float:
    words = set(re.split('[^a-z0-9]+', name.lower()))
    wrong_side = set().union(*(words & side for key, side in _SIDES.items() if not source.startswith(key)))
    points = len(words & _HINTS[source]) - 2 * len(wrong_side) - 2 * len(words & _NO_PICTURES) - is_compressed(name)
    return points + SequenceMatcher(None, name, source).ratio()
