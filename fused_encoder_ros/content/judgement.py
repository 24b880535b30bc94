"""What is wrong with a few seconds of looks, by the profile of the training data."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fused_encoder_ros.content.hypotheses import Hypothesis, finer_moves
from fused_encoder_ros.content.likeness import Points
from fused_encoder_ros.content.looks import Look
from fused_encoder_ros.content.profile import Profile
from fused_encoder_ros.content.reference import CameraReference, Likeness, Reference
from fused_encoder_ros.pipeline.data import JOINTS

_WEAK = 2.0
"""What is asked of the evidence, in gains and distances, where the profile is of too few bags."""

_SUSPICIOUS = 0.1
"""Below this distance data are as in training, and no fault is looked for."""

_EXPLAINED = 0.6
"""A fault explains data if, once it is undone, they are near to the training data, or at least by so much nearer."""

_ARM_RESTS = 0.25
"""Where so many of the joints stand still, they are not stuck: an arm rests."""

_BEYOND, _LEAST_BEYOND = 0.25, 0.05
"""A joint is beyond the range that it had in training from so much of that range on, and from so many rad or m on."""

_SAME_PICTURE = 8.0
"""Grey levels by which two topics that carry one camera's pictures may differ: their frames may be of different times."""

_BRIGHTNESS, _CONTRAST, _SHARPNESS, _MOTION = range(4)


@dataclass(frozen=True)
class ContentFault:
    """One thing that is wrong with what the data show.

    Attributes:
        source: the camera, or `JOINTS`.
        fault: its name: `exchanged`, `red_and_blue_exchanged`, `degrees`, `covered`, `unlike`, and so on.
        title: what is so, in a clause.
        evidence: the figures that show it.
        fix: what to do, in sentences.
        about: for `exchanged`, the camera whose pictures these are; of joints, which.
        since_ns: stamp of the observation since which it is so.
    """

    source: str
    fault: str
    title: str
    evidence: str
    fix: str
    about: str = ''
    since_ns: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from other faults."""
        return self.source, self.fault, self.about

    def __str__(self) -> str:
        return f'{self.title} ({self.evidence}). {self.fix}'


def judge(window: list[Look], reference: Reference, distances: dict[str, float] | None = None) -> list[ContentFault]:
    """What is wrong with looks that follow each other.

    Args:
        window: the looks.
        reference: what the training data were like.
        distances: is given how far each camera, and the joints, are; see `Watcher.distances`.
    """
    speeds = np.array([look.speeds for look in window])
    speed = float(np.median(np.sqrt((speeds**2).sum(axis=1))))
    # Where the robot hardly moves, a picture that does not change says nothing.
    speed = min(speed, reference.fastest) if speed > reference.moving else 0.0
    grids = np.array([look.grids for look in window], np.float64)
    pictures = {name: grids[:, number] for number, name in enumerate(reference.cameras)}
    own = {name: camera.likeness.distance(pictures[name]) for name, camera in reference.cameras.items()}
    if distances is not None:
        distances |= {name: max(own[name], 0.0) / camera.likeness.furthest for name, camera in reference.cameras.items()}
    exchanged = _exchanged(reference, pictures, own)
    faults = []
    for number, (name, camera) in enumerate(reference.cameras.items()):
        measures = np.array([look.measures[number] for look in window], np.float64)
        shown = exchanged.get(name)
        # Another camera's pictures may well be of another sharpness and brightness.
        of_measures = None if shown else _of_measures(name, camera, measures, speed, reference.is_weak)
        fault = of_measures or _of_pictures(name, reference, pictures[name], own[name], shown)
        if fault is not None:
            faults.append(fault)
    faults += _of_joints(np.array([look.joints for look in window]), speeds, reference, distances)
    return faults


def _of_measures(name: str, camera: CameraReference, measures: Points, speed: float, is_weak: bool) -> ContentFault | None:
    """Faults that one figure of the pictures shows."""
    now, lowest, highest = np.median(measures, axis=0), camera.lowest, camera.highest
    strict = 1 / _WEAK if is_weak else 1.0

    def told(of: int) -> str:
        figure = ('brightness', 'contrast', 'sharpness', 'change between pictures')[of]
        digits = 2 if of == _SHARPNESS else 1
        return f'{figure} {now[of]:.{digits}f}; in training, {lowest[of]:.{digits}f} to {highest[of]:.{digits}f}'

    brightest = min(2.0 * highest[_BRIGHTNESS], highest[_BRIGHTNESS] + 0.4 * (255 - highest[_BRIGHTNESS]))
    exposure = 'Set exposure and light as in training.'
    signs = (
        (
            now[_CONTRAST] < 0.25 * strict * lowest[_CONTRAST],
            ('covered', f'{name} shows almost nothing: it is covered, or it is dark', _CONTRAST),
            'Uncover the lens, and check that there is enough light.',
        ),
        (
            now[_BRIGHTNESS] < 0.5 * strict * lowest[_BRIGHTNESS],
            ('too_dark', f'{name} is much darker than in training', _BRIGHTNESS),
            exposure,
        ),
        (
            now[_BRIGHTNESS] > brightest + (255 - brightest) * (1 - strict),
            ('too_bright', f'{name} is much brighter than in training', _BRIGHTNESS),
            exposure,
        ),
        (
            measures[:, _MOTION].max() < 0.2 * camera.restless * speed,
            ('frozen', f'the picture of {name} does not change although the robot moves', _MOTION),
            'Restart its driver, and check its cable.',
        ),
        (
            now[_SHARPNESS] < 0.6 * strict * lowest[_SHARPNESS],
            ('blurred', f'{name} is blurred', _SHARPNESS),
            'Clean the lens, and adjust its focus.',
        ),
    )
    for shows, (fault, what, figure), fix in signs:
        if shows:
            return ContentFault(name, fault, what, told(figure), fix)
    return None


def _exchanged(
    reference: Reference, pictures: Mapping[str, Points], own: Mapping[str, float]
) -> dict[str, tuple[str, float, bool]]:
    """Cameras that show another one's pictures: which other, how much better that fits, and whether it shows this one's too.

    Two cameras cannot show the same view, unless one picture comes on both topics. So the other camera must not show its own
    view either. If it shows this one's, then it is enough that this one's pictures fit the other better than its own.
    """
    strict = _WEAK if reference.is_weak else 1.0
    fits: dict[tuple[str, str], tuple[float, bool]] = {}
    for name, camera in reference.cameras.items():
        for other, least in camera.gains_as.items() if own[name] >= _SUSPICIOUS else ():
            theirs = reference.cameras[other].likeness
            gain = camera.likeness.improbability(pictures[name]) - theirs.improbability(pictures[name])
            if least is not None and gain > strict * least:
                fits[name, other] = gain, theirs.distance(pictures[name]) < theirs.near
    found: dict[str, tuple[str, float, bool]] = {}
    for (name, other), (gain, is_near) in fits.items():
        is_same = np.abs(pictures[name] - pictures[other]).mean() < _SAME_PICTURE
        shows_another = any(one == other for one, _ in fits)
        is_free = is_same or shows_another or own[other] > reference.cameras[other].likeness.near
        is_mutual = fits.get((other, name), (0.0, False))[1]
        if is_free and (is_near or is_mutual) and gain > found.get(name, ('', 0.0, False))[1]:
            found[name] = other, gain, (other, name) in fits
    return found


def _of_pictures(
    name: str, reference: Reference, grids: Points, distance: float, shown: tuple[str, float, bool] | None
) -> ContentFault | None:
    """Faults that the layout of a camera's pictures shows; `shown` as `_exchanged` has found it."""
    camera = reference.cameras[name]
    if distance < _SUSPICIOUS:
        return None
    strict = _WEAK if reference.is_weak else 1.0
    best, fault, is_mutual = 0.0, None, False
    if shown is not None:
        other, best, is_mutual = shown
        fix = f'Exchange topics.{name} and topics.{other}, or give topics.{name} the topic of its own camera.'
        title = f'{name} shows what {other} showed in training'
        fault = ContentFault(name, 'exchanged', title, _fits(best, len(grids)), fix, other)
    found = None if is_mutual else _best(camera.likeness, grids, distance, strict)
    if found is not None and found[1] > best:
        hypothesis, gain = found
        title = f'{name} {hypothesis.what}'
        fault = ContentFault(name, hypothesis.fault, title, _fits(gain, len(grids)), hypothesis.fix)
    if fault is None and distance > strict * _unlike(camera.likeness):
        evidence = (
            f'the pictures differ {distance / camera.likeness.furthest:.1f} times as much as any in training, '
            f'{_where(camera, grids)}'
        )
        fix = 'Look at the picture for something new in view, dirt on the lens, or a different place.'
        fault = ContentFault(name, 'unlike', f'{name} shows something that it never showed in training', evidence, fix)
    return fault


def _best(
    likeness: Likeness,
    values: Points,
    distance: float,
    strict: float,
    explained: Collection[str] = (),
    within: Collection[str] = (),
) -> tuple[Hypothesis, float] | None:
    """The fault that brings values nearest to the training data once it is undone, and by how much; None for none.

    Joints that are `explained` already have no other fault. A joint that is `within` its range has no fault of its own.
    """
    beyond, found = 0.0, None
    for telling in likeness.tellings:
        hypothesis = telling.hypothesis
        if telling.gain is None or not set(hypothesis.joints).isdisjoint(explained):
            continue
        if len(hypothesis.joints) == 1 and hypothesis.joints[0] in within:
            continue
        undone = likeness.distance(hypothesis.undone(values))
        gain = distance - undone - hypothesis.stretch
        if gain > max(strict * telling.gain, beyond):
            beyond, found = gain, (hypothesis, undone)
    if found is None:
        return None
    hypothesis, undone = _refined(likeness, values, *found) if found[0].fault == 'moved' else found
    if undone > max(likeness.near, _EXPLAINED * distance):
        return None
    return hypothesis, distance - undone - hypothesis.stretch


def _refined(likeness: Likeness, grids: Points, start: Hypothesis, undone: float) -> tuple[Hypothesis, float]:
    """The move near the given one that brings pictures nearest to the training data, and how near."""
    best, part = start, 0.5
    while part > 0.1:
        moves = [(likeness.distance(move.undone(grids)), move) for move in finer_moves(best, part)]
        nearest, move = min(moves, key=lambda pair: pair[0])
        if nearest < undone:
            undone, best = nearest, move
        else:
            part /= 2
    return best, undone


def _unlike(likeness: Likeness) -> float:
    """What ordinary new data do not pass: half as far again as the training's own, and a margin."""
    return 1.5 * likeness.furthest + 1.0


def _fits(gain: float, count: int) -> str:
    return f'with this fault undone, {count} sets fit the training data {np.exp(gain):.1f} times better'


def _where(camera: CameraReference, grids: Points) -> str:
    """Which part of the picture is most unlike."""
    z = (camera.likeness.deviations(grids) ** 2).mean(axis=0)
    side = round(np.sqrt(z.size / 3))
    cells = z.reshape(side, side, 3).sum(axis=2)
    row, column = np.unravel_index(int(cells.argmax()), cells.shape)
    down = ('upper', 'middle', 'lower')[int(row) * 3 // side]
    right = ('left', 'middle', 'right')[int(column) * 3 // side]
    return f'most of all in the {"middle" if down == right else f"{down} {right}"} part'


def _of_joints(
    positions: Points, speeds: Points, reference: Reference, distances: dict[str, float] | None
) -> Iterator[ContentFault]:
    """Faults that the joints' positions show."""
    likeness, profile = reference.joints, reference.profile
    names: list[str] = list(profile.fed['joint_names'])
    distance = likeness.distance(positions)
    if distances is not None:
        distances[JOINTS] = max(distance, 0.0) / likeness.furthest
    still = (speeds == 0).all(axis=0)
    if still.mean() < _ARM_RESTS:
        for number in np.flatnonzero(still & reference.always_move):
            evidence = f'at {positions[-1, number]:.3f} in {len(positions)} sets, while most others move'
            fix = 'Check its encoder and its driver.'
            yield ContentFault(JOINTS, 'stuck', f'the joint {names[number]} does not move', evidence, fix, names[number])
    strict = _WEAK if reference.is_weak else 1.0
    margin = strict * np.maximum(_BEYOND * (profile.highest - profile.lowest), _LEAST_BEYOND)
    now = np.median(positions, axis=0)
    beyond = (now < profile.lowest - margin) | (now > profile.highest + margin)
    within = {name for name, is_beyond in zip(names, beyond) if not is_beyond}
    explained: set[str] = set()
    sound = positions
    # One fault at a time, that which explains most first: joints may have several.
    while (found := _best(likeness, sound, likeness.distance(sound), strict, explained, within)) is not None:
        hypothesis, gain = found
        about = 'the joints' if len(hypothesis.joints) == len(names) else ' and '.join(hypothesis.joints)
        ranges = _ranges(positions, profile, hypothesis.joints)
        evidence = f'{ranges}; {_fits(gain * len(names) / len(hypothesis.joints), len(positions))}'
        yield ContentFault(JOINTS, hypothesis.fault, f'{about} {hypothesis.what}', evidence, hypothesis.fix, about)
        explained.update(hypothesis.joints)
        sound = hypothesis.undone(sound)
    for number in np.flatnonzero(beyond):
        if names[number] in explained:
            continue
        evidence = _ranges(positions, profile, (names[number],))
        fix = 'Calibrate it as in training, or record training data that cover these positions.'
        yield ContentFault(
            JOINTS,
            'beyond_training',
            f'{names[number]} is outside the range that it had in training',
            evidence,
            fix,
            names[number],
        )


def _ranges(positions: Points, profile: Profile, joints: tuple[str, ...]) -> str:
    """Where joints are, and where they were in training; the one that is furthest out stands for many."""
    names, lowest, highest = list(profile.fed['joint_names']), profile.lowest, profile.highest
    now = np.median(positions, axis=0)
    out = np.maximum(lowest - now, now - highest) / np.maximum(highest - lowest, 1e-3)
    number = max((names.index(joint) for joint in joints), key=lambda n: float(out[n]))
    return f'{names[number]} is at {now[number]:.2f}; in training, {lowest[number]:.2f} to {highest[number]:.2f}'
