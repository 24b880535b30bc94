"""Which topic or joint a person may have meant, where the one that is asked for is not there."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher

from fused_encoder_ros.diagnosis.facts.facts import Facts
from fused_encoder_ros.settings import is_compressed
from fused_encoder_ros.settings.topics import Topic, expected_kind

_HAND = {'wrist', 'hand', 'gripper', 'arm'}
_SCENE = {'global', 'top', 'head', 'front', 'overhead', 'scene', 'external', 'high', 'base', 'third', 'main'}
_ALIKE = {
    'left': {'left', 'l'},
    'right': {'right', 'r'},
    'joint': {'joint', 'joints', 'arm'},
    'states': {'states', 'state'},
    **dict.fromkeys(_HAND, _HAND),
    **dict.fromkeys(_SCENE, _SCENE),
}
"""Words of a source's name, and what people call the same in topics."""
_SIDES = {'left': {'left', 'l'}, 'right': {'right', 'r'}}
_OTHER_SIDE = {'left': 'right', 'right': 'left', 'l': 'r', 'r': 'l'}
_NO_PICTURES = {'depth', 'infra', 'infra1', 'infra2', 'mask', 'rect'}

_NEAR_JOINT, _CLEARLY_NEARER = 0.6, 0.05


def likely_topics(facts: Facts, sources: Collection[str]) -> dict[str, str]:
    """For each of the sources the unused topic that is most like it, each topic once."""
    streams = facts.streams.values()
    used = {t.name for t in facts.topics if any(t.name in s.topics and _fits(s.source, t) for s in streams)}
    topics = [topic for topic in facts.topics if topic.messages != 0 and topic.name not in used]
    pairs = [(_likeness(source, t.name), source, t.name) for source in sources for t in topics if _fits(source, t)]
    likely: dict[str, str] = {}
    for _, source, name in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        if source not in likely and name not in likely.values():
            likely[source] = name
    return {source: likely[source] for source in facts.streams if source in likely}


def other_arm(name: str, topics: Collection[Topic]) -> list[str]:
    """The topic of the same type that has the other side in its name, as one element; empty where there is none."""
    other = ''.join(_OTHER_SIDE.get(word, word) for word in re.split('([^a-z0-9]+)', name))
    kinds = {topic.kind for topic in topics if topic.name == name}
    return [topic.name for topic in topics if topic.name == other != name and topic.kind in kinds]


def _fits(source: str, topic: Topic) -> bool:
    return topic.kind == expected_kind(source, topic.name)


def _likeness(source: str, name: str) -> float:
    words = _words(name)
    wrong_side = set().union(*(words & side for key, side in _SIDES.items() if key not in _words(source)))
    points = len(words & _hints(source)) - 2 * len(wrong_side) - 2 * len(words & _NO_PICTURES) - is_compressed(name)
    return points + SequenceMatcher(None, name, source).ratio()


def _hints(source: str) -> set[str]:
    """Words that speak for a topic of this source."""
    return set().union(*(_ALIKE.get(word, {word}) for word in _words(source)))


def likely_joints(missing: Sequence[str], published: Sequence[str]) -> dict[str, str]:
    """For each missing joint the published name that is clearly the nearest, and is so for no other joint."""
    nearest = {name: near for name in missing if (near := _nearest_joint(name, published)) is not None}
    chosen = list(nearest.values())
    return {name: near for name, near in nearest.items() if chosen.count(near) == 1}


def _nearest_joint(name: str, published: Sequence[str]) -> str | None:
    fitting = [other for other in published if _side_and_number(other) == _side_and_number(name)]
    ratios = sorted(((SequenceMatcher(None, name, other).ratio(), other) for other in fitting), reverse=True)
    if not ratios or ratios[0][0] < _NEAR_JOINT:
        return None
    if len(ratios) > 1 and ratios[0][0] - ratios[1][0] < _CLEARLY_NEARER:
        return None
    return ratios[0][1]


def _side_and_number(joint: str) -> tuple[list[str], list[str]]:
    """What tells joints of one robot apart whose names are alike otherwise."""
    words = _words(joint)
    return [side for side, names in _SIDES.items() if words & names], re.findall('[0-9]+', joint)


def _words(name: str) -> set[str]:
    return set(re.split('[^a-z0-9]+', name.lower()))
