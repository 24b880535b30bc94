"""What the profile of the training data teaches: how far ordinary data go, and which faults can be told from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.content.hypotheses import Hypothesis, Values, of_joints, of_pictures
from fused_encoder_ros.content.likeness import Cloud, Points, folds
from fused_encoder_ros.content.profile import Profile

ENOUGH_BAGS = 5
"""With fewer bags in the profile, only what is grossly wrong is told."""

_CELLS = 6
"""Pictures are compared as so many cells to a side."""

_DARKEST = 4.0
"""A picture darker than this (of 255) is compared as if it were as bright: its noise says nothing."""

_CHANNEL_GAIN, _SHADE = 0.10, 0.15
"""How much the gain of a colour, and the light from one side of the picture to the other, may change in any lab."""

_GAIN_AS = 0.1
"""How much more probable pictures must be for another camera's, at the least; as `Hypothesis.least_gain`."""

_USUAL, _NEAR, _FAR = 0.5, 0.95, 0.99
"""Quantiles of the held-out training data: the middle, what most do not pass, and what counts as the furthest. They are of
single rows, not of means over a bag, since the pictures of a few seconds are nearly the same."""

_ODD = 0.05
"""So many of the bags, and one at the least, do not make ordinary what they alone show: their camera may have been covered."""

_MOVES = 0.25
"""A robot moves from so much of its fastest speed on, though the training data may all be faster."""

_LEAST_DISTANCE = 0.05
"""What data may always differ, though the training data are all the same."""


@dataclass(frozen=True)
class Telling:
    """How well one fault can be told from sound data.

    Attributes:
        hypothesis: the fault.
        gain: how much nearer data must come to the training data once the fault is undone, to be taken for faulty; None where
            sound and faulty data cannot be told apart, as a symmetric scene from its mirror image.
    """

    hypothesis: Hypothesis
    gain: float | None


class Likeness:
    """How like the training data the values of one camera, or of the joints, are.

    Distances count from the middle of the held-out training data's; so 0 is usual, and they compare between cameras.

    Args:
        values: of the training data, float64 [N, ...].
        bags: the bag of each, uint64 [N].
        hypotheses: faults to tell.
        points: from values to points of a cloud.
        ordinary: from the middle of the points to directions in which they may differ; see `Cloud`.
        independent: see `Cloud`.

    Attributes:
        usual: what is taken off the cloud's distances.
        near, furthest: the distances that most ordinary data, and all but a few, do not pass.
        tellings: one for each hypothesis, in order.
    """

    def __init__(
        self,
        values: Values,
        bags: NDArray[np.uint64],
        hypotheses: Sequence[Hypothesis],
        points: Callable[[Values], Points],
        ordinary: Callable[[Points], Points] | None = None,
        independent: bool = False,
    ) -> None:
        self._points = points

        def cloud(of: Points) -> Cloud:
            return Cloud(of, ordinary(of.mean(axis=0)) if ordinary else None, independent)

        all_points = points(values)
        self.cloud = cloud(all_points)
        own = np.zeros(len(values))
        sound, faulty = np.zeros((2, len(hypotheses), len(values)))
        for held in folds(bags):
            others = cloud(all_points[~held])
            own[held] = others.distance(all_points[held])
            for number, hypothesis in enumerate(hypotheses):
                undone, made = (others.distance(points(f(values[held]))) for f in (hypothesis.undone, hypothesis.made))
                sound[number, held] = own[held] - undone - hypothesis.stretch
                faulty[number, held] = made - own[held] - hypothesis.stretch
        self.usual = float(np.quantile(own, _USUAL))
        near, furthest = np.quantile(own, [_NEAR, _FAR])
        self.near, self.furthest = (max(float(limit) - self.usual, _LEAST_DISTANCE) for limit in (near, furthest))
        self.tellings = [
            _telling(hypothesis, sound[number], faulty[number], bags) for number, hypothesis in enumerate(hypotheses)
        ]

    def distance(self, values: Values) -> float:
        """The mean distance of values [W, ...]."""
        return float(self.cloud.distance(self._points(values)).mean()) - self.usual

    def improbability(self, values: Values) -> float:
        """As `Cloud.improbability`, the mean over values [W, ...]."""
        return float(self.cloud.improbability(self._points(values)).mean())

    def deviations(self, values: Values) -> Points:
        """As `Cloud.deviations`, of values."""
        return self.cloud.deviations(self._points(values))


@dataclass(frozen=True)
class CameraReference:
    """What one camera showed in training.

    Attributes:
        likeness: of its grids.
        lowest, highest: float64 [4], limits of the measures, by `looks.MEASURES`.
        restless: its motion a unit of the joints' speed: what it hardly ever falls below.
        gains_as: by another camera: how much more probable its pictures must be for that one's; None where nothing tells the
            two apart.
    """

    likeness: Likeness
    lowest: Points
    highest: Points
    restless: float
    gains_as: dict[str, float | None]


class Reference:
    """What a profile teaches.

    Attributes:
        profile: the profile.
        cameras: by name.
        joints: of the positions.
        features: of the features, with the dimensions that never change left out; None where the profile has none.
        changing: bool [D], the dimensions of a feature that change in training.
        is_weak: whether the profile is of too few bags to know ordinary variation.
        moving, fastest: the speed of the joints together (root of the sum of squares, rad/s) from which on the robot moves,
            and that one set in ten of the training passes.
        always_move: bool [J], the joints that hardly ever stand still in training.
    """

    def __init__(self, profile: Profile) -> None:
        rows = profile.rows
        self.profile = profile
        self.bags: NDArray[np.uint64] = rows['bag']
        self.is_weak = profile.bags < ENOUGH_BAGS
        speeds = rows['speeds'].astype(np.float64)
        speed = np.sqrt((speeds**2).sum(axis=1))
        slowest, self.fastest = (float(q) for q in np.quantile(speed, [0.1, 0.9]))
        self.moving = min(slowest, _MOVES * self.fastest)
        self.always_move: NDArray[np.bool_] = (speeds == 0).mean(axis=0) < 0.02
        names = list(profile.fed['cameras'])
        grids = rows['grids'].astype(np.float64)
        likenesses = [
            Likeness(grids[:, number], self.bags, of_pictures(), picture_points, _ordinary_light)
            for number in range(len(names))
        ]
        self.cameras = {}
        for number, name in enumerate(names):
            measures = rows['measures'][:, number].astype(np.float64)
            moves = speed > self.moving
            gains_as = {
                other: _gain_as(likenesses[number], likenesses[k], grids[:, number], grids[:, k])
                for k, other in enumerate(names)
                if k != number
            }
            lowest, highest = _limits(measures, self.bags)
            restless = _limits(measures[moves, 3] / speed[moves], self.bags[moves])[0] if moves.any() else 0.0
            self.cameras[name] = CameraReference(likenesses[number], lowest, highest, float(restless), gains_as)
        self._learn_joints(rows['joints'].astype(np.float64))
        self._learn_features(rows['feature'].astype(np.float64))

    def _learn_joints(self, positions: Points) -> None:
        middle, spread = positions.mean(axis=0), positions.std(axis=0)
        # A joint that the training never moved: a hundredth of a radian, or of a metre, is a change.
        scale = np.maximum(spread, 0.01)

        def points(values: Values) -> Points:
            return (values - middle) / scale

        hypotheses = of_joints(self.profile.fed['joint_names'])
        self.joints = Likeness(positions, self.bags, hypotheses, points, independent=True)

    def _learn_features(self, features: Points) -> None:
        self.changing = features.std(axis=0) > 0
        self.features = None
        if self.changing.any():
            scale = features.std(axis=0)[self.changing]

            def points(values: Values) -> Points:
                return values[..., self.changing] / scale

            self.features = Likeness(features, self.bags, (), points)


def _limits(values: Points, bags: NDArray[np.uint64]) -> tuple[Points, Points]:
    """The lowest and highest of values [N, ...] that are ordinary: some bags may be faulty themselves."""
    of_bags = [np.quantile(values[bags == bag], [0.02, 0.98], axis=0) for bag in np.unique(bags)]
    lowest, highest = np.sort(of_bags, axis=0).swapaxes(0, 1)
    out = 0 if len(of_bags) < ENOUGH_BAGS else max(round(_ODD * len(of_bags)), 1)
    return lowest[out], highest[-1 - out]


def picture_points(grids: Values) -> Points:
    """Grids float64 [..., H, W, 3] as points: coarser, and divided by their brightness, so that exposure changes nothing."""
    *lead, height, width, _ = grids.shape
    blocks = grids.reshape(*lead, _CELLS, height // _CELLS, _CELLS, width // _CELLS, 3).mean(axis=(-4, -2))
    brightness = np.maximum(blocks.mean(axis=(-3, -2, -1), keepdims=True), _DARKEST)
    points: Points = (blocks / brightness).reshape(*lead, -1)
    return points


def _ordinary_light(middle: Points) -> Points:
    """Changes of colour and light that any camera may see, as directions of points."""
    cells = middle.reshape(_CELLS, _CELLS, 3)
    ramp = np.linspace(-1, 1, _CELLS)
    channels = [np.where(np.arange(3) == channel, _CHANNEL_GAIN * cells, 0.0) for channel in range(3)]
    shades = [_SHADE * ramp[:, np.newaxis, np.newaxis] * cells, _SHADE * ramp[np.newaxis, :, np.newaxis] * cells]
    return np.array([direction.ravel() for direction in (*channels, *shades)])


def _telling(hypothesis: Hypothesis, sound: Points, faulty: Points, bags: NDArray[np.uint64]) -> Telling:
    """How well a fault can be told, by what undoing it gains with each row as it is, and with each made faulty."""
    if hypothesis.fault != 'moved':
        return Telling(hypothesis, _least_gain(sound, faulty, hypothesis.least_gain))
    # A moved camera is not told from one view, but from all that it shows while the robot moves: a bag counts as a whole.
    own = [bags == bag for bag in np.unique(bags)]
    sound, faulty = (np.array([gains[rows].mean() for rows in own]) for gains in (sound, faulty))
    return Telling(hypothesis, _least_gain(sound, faulty, hypothesis.least_gain, _NEAR))


def _gain_as(own: Likeness, other: Likeness, own_grids: Values, other_grids: Values) -> float | None:
    """By how much pictures must be more probable for another camera's than for the own, to be taken for the other's."""

    def nearer(grids: Values) -> Points:
        points = picture_points(grids)
        return own.cloud.improbability(points) - other.cloud.improbability(points)

    return _least_gain(nearer(own_grids), nearer(other_grids), _GAIN_AS)


def _least_gain(sound: Points, faulty: Points, least: float, quantile: float = _FAR) -> float | None:
    """What tells faulty data from sound ones; None where nothing does. See `Telling.gain`."""
    gain = max(float(np.quantile(sound, quantile)), 0.0) + least
    return gain if float(np.median(faulty)) > gain else None
