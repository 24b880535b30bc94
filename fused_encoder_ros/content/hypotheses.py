"""What may be wrong with a camera's pictures or with joints: each fault, and what undoes it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Hypothesis:
    """One fault.

    Attributes:
        fault: its name, as in `content:<fault>`.
        made: from sound values to faulty ones.
        undone: from faulty values to sound ones.
        what: what is so, a clause about the camera or joint.
        fix: what to do, in sentences.
        joints: those that it is about; empty for a camera.
        stretch: by how much it stretches values: the logarithm of the factor, a mean over all joints. A fault that stretches
            spreads the same values wider, so each is the less probable; else whatever shrinks values would explain everything.
        least_gain: by how much nearer data must come to the training data, at the least, once it is undone.
        move: of a camera that has moved, as `moved` takes it.
    """

    fault: str
    made: Callable[[Values], Values]
    undone: Callable[[Values], Values]
    what: str
    fix: str
    joints: tuple[str, ...] = ()
    stretch: float = 0.0
    least_gain: float = 0.1
    move: tuple[float, float, float] = (0.0, 0.0, 0.0)


_TURN_FIX = 'Mount the camera as in training, or turn its pictures in the driver.'


def of_pictures() -> list[Hypothesis]:
    """Faults of one camera. Values are its grids, float64 [..., H, W, 3]."""
    swapped = Hypothesis(
        'red_and_blue_exchanged',
        _swap_red_and_blue,
        _swap_red_and_blue,
        'has red and blue exchanged',
        'The driver announces the wrong order of the colours. Correct the encoding (rgb8 or bgr8) in the driver or, for '
        'images with the encoding 8UC3 or 8UC4, the parameter untyped_color_order.',
    )
    turned = [
        Hypothesis(
            f'turned_{90 * quarters}',
            partial(np.rot90, k=-quarters, axes=(-3, -2)),
            partial(np.rot90, k=quarters, axes=(-3, -2)),
            'is upside down' if quarters == 2 else f'is turned by 90° to the {"right" if quarters == 1 else "left"}',
            _TURN_FIX,
        )
        for quarters in (1, 2, 3)
    ]
    mirrored = [
        Hypothesis('mirrored', _flip(-2), _flip(-2), 'is mirrored, left for right', _TURN_FIX),
        Hypothesis('flipped', _flip(-3), _flip(-3), 'is mirrored, top for bottom', _TURN_FIX),
    ]
    return [swapped, *turned, *mirrored, *_moves()]


def of_joints(names: Sequence[str]) -> list[Hypothesis]:
    """Faults of joints. Values are positions, float64 [..., J], in the order of `names`."""
    count = len(names)
    everything = np.arange(count)
    degrees = Hypothesis(
        'degrees',
        _affine(everything, math.degrees(1)),
        _affine(everything, math.radians(1)),
        'come in degrees, but in training they came in radians',
        'Make the driver publish radians, as sensor_msgs/JointState requires.',
        tuple(names),
        math.log(math.degrees(1)),
    )
    radians = Hypothesis(
        'radians',
        degrees.undone,
        degrees.made,
        'come in radians, but in training they came in degrees',
        'Publish them in the unit of the training data, or train again with radians.',
        tuple(names),
        math.log(math.radians(1)),
    )
    pairs = mirror_pairs(names)
    hypotheses = [degrees, radians]
    if pairs:
        order = everything.copy()
        for one, other in pairs:
            order[[one, other]] = other, one
        both = Hypothesis(
            'arms_exchanged',
            partial(np.take, indices=order, axis=-1),
            partial(np.take, indices=order, axis=-1),
            'are exchanged between left and right',
            "Exchange the joints' names in the two drivers or, if each arm has its own topic, the topics.",
            tuple(names),
        )
        hypotheses.append(both)
    for one, other in pairs:
        order = everything.copy()
        order[[one, other]] = other, one
        exchange = partial(np.take, indices=order, axis=-1)
        hypotheses.append(
            Hypothesis(
                'joints_exchanged',
                exchange,
                exchange,
                'are exchanged: each moves as the other did in training',
                "Exchange their names in the driver's configuration.",
                (names[one], names[other]),
            )
        )
    for number, name in enumerate(names):
        sign = _affine(number, -1.0)
        sign_fix = 'Reverse its sign in the driver, or calibrate it as in training.'
        hypotheses.append(Hypothesis('sign_turned', sign, sign, 'has the opposite sign', sign_fix, (name,)))
        for quarters in (-4, -2, -1, 1, 2, 4):
            shift, told = quarters * math.pi / 2, f'{90 * abs(quarters)}° too {"high" if quarters > 0 else "low"}'
            made, undone = _affine(number, 1.0, shift), _affine(number, 1.0, -shift)
            fix = 'Calibrate its zero position as in training.'
            hypotheses.append(Hypothesis('offset', made, undone, f'is {told} all the time', fix, (name,)))
        for factor, told in ((math.degrees(1), '57.3'), (100.0, '100'), (1000.0, '1000')):
            for made_by, said in ((factor, 'large'), (1 / factor, 'small')):
                made, undone = _affine(number, made_by), _affine(number, 1 / made_by)
                fix = 'Publish it in the unit of the training data.'
                what = f'is {told} times as {said} as in training, so it comes in another unit'
                stretch = math.log(made_by) / count
                hypotheses.append(Hypothesis('scaled', made, undone, what, fix, (name,), stretch))
    # The distance is a mean over joints, and a fault of one joint changes one part of it.
    return [replace(hypothesis, least_gain=1 / count) for hypothesis in hypotheses]


def mirror_pairs(names: Sequence[str]) -> list[tuple[int, int]]:
    """Joints of the left arm with their counterparts of the right: names that differ in left/right, or l/r, alone.

    In whatever spelling: `left_elbow`, `arm_l_2`, `LeftElbow`, `LElbowRoll`.
    """
    index = {name: number for number, name in enumerate(names)}
    pairs = []
    for name, number in index.items():
        for left, right in (('left', 'right'), ('Left', 'Right'), ('LEFT', 'RIGHT'), ('l', 'r'), ('L', 'R')):
            before = '[A-Z]' if left[0].isupper() else '[A-Za-z]'
            other = re.sub(f'(?<!{before}){left}(?![a-z])', right, name)
            if other != name and other in index:
                pairs.append((number, index[other]))
    return pairs


def _swap_red_and_blue(grids: Values) -> Values:
    return grids[..., ::-1]


def _flip(axis: int) -> Callable[[Values], Values]:
    return partial(np.flip, axis=axis)


def _affine(joints: NDArray[np.int64] | int, factor: float, shift: float = 0.0) -> Callable[[Values], Values]:
    def apply(positions: Values) -> Values:
        moved = positions.copy()
        moved[..., joints] = moved[..., joints] * factor + shift
        return moved

    return apply


_STEP, _STEPS = 0.08, 2
"""A camera's picture may have moved by so many steps, each a share of its width, to any side."""

_TILTS = (10, 20)
_MOVED_FIX = 'Mount the camera as it was in training, or train again.'


def _moves() -> list[Hypothesis]:
    steps = range(-_STEPS, _STEPS + 1)
    shifts = [(right * _STEP, down * _STEP, 0.0) for right in steps for down in steps if right or down]
    return [moved(*by) for by in (*shifts, *((0.0, 0.0, sign * tilt) for tilt in _TILTS for sign in (1, -1)))]


def moved(right: float, down: float, degrees: float) -> Hypothesis:
    """A camera whose picture lies further right and down, by shares of its width, and is tilted to the left."""
    told = [
        f'{abs(share):.0%} further {names[share > 0]}'
        for share, names in ((right, ('left', 'right')), (down, ('up', 'down')))
        if share
    ]
    lies = f'is about {" and ".join(told)}' if told else ''
    tilted = f'is tilted by about {abs(degrees):.0f}° to the {"left" if degrees > 0 else "right"}' if degrees else ''
    return Hypothesis(
        'moved',
        partial(_shifted, right=right, down=down, degrees=degrees),
        partial(_shifted_back, right=right, down=down, degrees=degrees),
        f'has moved: its picture {" and ".join(filter(None, (lies, tilted)))}',
        _MOVED_FIX,
        least_gain=_MOVED_GAIN,
        move=(right, down, degrees),
    )


def finer_moves(hypothesis: Hypothesis, part: float) -> list[Hypothesis]:
    """Those around a move, a part of the usual step away."""
    right, down, degrees = hypothesis.move
    step, tilt = part * _STEP, part * _TILTS[0]
    return [
        moved(right + dx * step, down + dy * step, degrees + turn * tilt)
        for dx, dy, turn in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
    ]


_MOVED_GAIN = 0.25
"""There are many ways to have moved, and one of them may happen to fit better."""


def _shifted(grids: Values, right: float, down: float, degrees: float) -> Values:
    """Grids with their picture turned about its middle, then shifted; what comes in at the border repeats it."""
    return _warped(grids, _transform(grids.shape[-2], right, down, degrees))


def _shifted_back(grids: Values, right: float, down: float, degrees: float) -> Values:
    back = cv2.invertAffineTransform(_transform(grids.shape[-2], right, down, degrees))
    return _warped(grids, np.asarray(back, np.float64))


def _transform(side: int, right: float, down: float, degrees: float) -> Values:
    middle = (side - 1) / 2
    turn = np.asarray(cv2.getRotationMatrix2D((middle, middle), degrees, 1.0), np.float64)
    turn[:, 2] += right * side, down * side
    return turn


def _warped(grids: Values, transform: Values) -> Values:
    side = grids.shape[-2]
    flat = grids.reshape(-1, side, side, 3)
    # Pictures side by side as channels, of which OpenCV takes four at a time.
    stacked = np.ascontiguousarray(flat.transpose(1, 2, 0, 3)).reshape(side, side, -1)
    warped = [
        cv2.warpAffine(stacked[..., at : at + 4], transform, (side, side), borderMode=cv2.BORDER_REPLICATE).reshape(
            side, side, -1
        )
        for at in range(0, stacked.shape[2], 4)
    ]
    whole: Values = np.concatenate(warped, axis=2).reshape(side, side, len(flat), 3).transpose(2, 0, 1, 3)
    return whole.reshape(grids.shape)
