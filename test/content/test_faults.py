"""Faults of content: each is found and named in episodes of their own, and sound episodes are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import (
    FAULTS_OF_JOINTS,
    FAULTS_OF_PICTURES,
    SPEC,
    Change,
    episode,
    exchanged,
    faults_in,
    of_camera,
    of_joints,
    profile_of,
    stuck,
    tilted,
    times,
    unchanged,
    upside_down,
)

from fused_encoder_ros.content.hypotheses import mirror_pairs
from fused_encoder_ros.content.inspector import ContentInspector
from fused_encoder_ros.content.judgement import judge
from fused_encoder_ros.content.profile import Profile, merge
from fused_encoder_ros.content.reference import Reference
from fused_encoder_ros.content.watch import Watcher
from fused_encoder_ros.pipeline.data import JOINTS, Observation, Reason

CAMERAS = SPEC.cameras


def test_sound_episodes_are_left_alone(reference: Reference, new_episodes: list[list[Observation]]) -> None:
    """Other objects, other motion, and light that is brighter or darker by a fifth."""
    for observations in new_episodes:
        assert faults_in(reference, observations, unchanged)[0] == []


@pytest.mark.parametrize('fault', FAULTS_OF_PICTURES)
@pytest.mark.parametrize('camera', CAMERAS)
def test_faults_of_pictures_are_named(
    reference: Reference, new_episodes: list[list[Observation]], camera: str, fault: str
) -> None:
    for observations in new_episodes:
        found, first_s = faults_in(reference, observations, FAULTS_OF_PICTURES[fault](camera))
        assert [(one.source, one.fault) for one in found] == [(camera, fault)]
        assert first_s <= (9.0 if fault == 'moved' else 5.0)


def test_exchanged_cameras(reference: Reference, new_episodes: list[list[Observation]]) -> None:
    for observations in new_episodes:
        found, _ = faults_in(reference, observations, exchanged('left_wrist', 'right_wrist'))
        assert {(one.source, one.fault, one.about) for one in found} == {
            ('left_wrist', 'exchanged', 'right_wrist'),
            ('right_wrist', 'exchanged', 'left_wrist'),
        }
        told = next(str(one) for one in found if one.source == 'left_wrist')
        assert told.startswith('left_wrist shows what right_wrist showed in training (with this fault undone, ')
        assert 'times better). Exchange topics.left_wrist and topics.right_wrist' in told


def test_a_wrist_camera_tilted_by_a_little(reference: Reference, new_episodes: list[list[Observation]]) -> None:
    """Single pictures of a wrist camera vary more than that."""
    for observations in new_episodes:
        found, _ = faults_in(reference, observations, tilted('right_wrist', 10))
        assert [(one.source, one.fault) for one in found] == [('right_wrist', 'moved')]


def test_one_camera_on_two_topics(reference: Reference, new_episodes: list[list[Observation]]) -> None:
    def both_left(observation: Observation) -> Observation:
        left = observation.images[..., :3]
        return of_camera('right_wrist', lambda _: left)(observation)

    found, _ = faults_in(reference, new_episodes[0], both_left)
    assert [(one.source, one.fault, one.about) for one in found] == [('right_wrist', 'exchanged', 'left_wrist')]


@pytest.mark.parametrize(
    ('change', 'fault', 'about'),
    [
        (FAULTS_OF_JOINTS['degrees'], 'degrees', 'the joints'),
        (FAULTS_OF_JOINTS['arms_exchanged'], 'arms_exchanged', 'the joints'),
        (FAULTS_OF_JOINTS['scaled'], 'scaled', 'left_gripper'),
        (times(15, 1e3), 'scaled', 'right_gripper'),
        (stuck(2), 'stuck', 'left_joint_3'),
    ],
)
def test_faults_of_joints_are_named(
    reference: Reference, new_episodes: list[list[Observation]], change: Change, fault: str, about: str
) -> None:
    for observations in new_episodes:
        found, first_s = faults_in(reference, observations, change)
        assert (JOINTS, fault, about) in [one.key for one in found]
        assert {one.source for one in found} == {JOINTS} and first_s <= 5.0


def test_a_joint_beyond_its_range_is_told_with_the_range(reference: Reference, new_episodes: list[list[Observation]]) -> None:
    def change(positions: np.ndarray) -> np.ndarray:
        positions[4] = 5.0 + 0.1 * positions[4]
        return positions

    found, _ = faults_in(reference, new_episodes[0], of_joints(change))
    (one,) = [one for one in found if one.source == JOINTS]
    low, high = reference.profile.lowest[4], reference.profile.highest[4]
    assert 'left_joint_5' in one.title and f'; in training, {low:.2f} to {high:.2f}' in one.evidence


def test_a_joint_within_its_range_has_no_fault_of_its_own(reference: Reference, new_episodes: list[list[Observation]]) -> None:
    """It rests where it seldom was: near zero, which looks like another unit, or where its opposite often was."""
    lowest, highest = reference.profile.lowest, reference.profile.highest
    joint = int(np.flatnonzero((lowest < -0.1) & (highest > 0.1))[0])
    for place in (0.001, 0.9 * lowest[joint], 0.9 * highest[joint], highest[joint] + 0.04):

        def change(positions: np.ndarray, place: float = place) -> np.ndarray:
            positions[joint] = place + 0.01 * positions[joint]
            return positions

        assert faults_in(reference, new_episodes[0], of_joints(change))[0] == []


def test_a_joint_that_reaches_further_once_is_not_told(reference: Reference, new_episodes: list[list[Observation]]) -> None:
    watcher = Watcher(reference)
    for number, observation in enumerate(new_episodes[0]):
        beyond = 20 <= number < 40
        positions = observation.joint_positions.copy()
        positions[4] = reference.profile.highest[4] + 0.3 if beyond else positions[4]
        assert watcher.see(of_joints(lambda _, now=positions: now)(observation)) == ()


@pytest.mark.parametrize(
    ('left', 'right'),
    [('left_elbow', 'right_elbow'), ('arm_l_2', 'arm_r_2'), ('LeftElbow', 'RightElbow'), ('LElbowRoll', 'RElbowRoll')],
)
def test_joints_of_both_arms_are_paired_by_their_names(left: str, right: str) -> None:
    assert mirror_pairs([right, 'lift', left, 'rift']) == [(2, 0)]


def test_two_faults_at_once(reference: Reference, new_episodes: list[list[Observation]]) -> None:
    def change(observation: Observation) -> Observation:
        return times(15, 1e3)(upside_down('global')(observation))

    found, _ = faults_in(reference, new_episodes[1], change)
    assert {(one.source, one.fault) for one in found} == {('global', 'turned_180'), (JOINTS, 'scaled')}


def test_a_robot_at_rest_is_neither_frozen_nor_stuck(reference: Reference) -> None:
    found, _ = faults_in(reference, episode(104, still=True), unchanged)
    assert not {one.fault for one in found} & {'frozen', 'stuck'}


def test_what_cannot_be_told_is_not_told() -> None:
    """A camera that sees a symmetric, grey scene: upside down, mirrored or with other colours it looks the same."""
    ramp = np.abs(np.linspace(-1, 1, 84))
    plain = (60 + 100 * np.maximum(ramp[:, np.newaxis], ramp[np.newaxis]))[..., np.newaxis].repeat(3, axis=2)

    def grey(observation: Observation) -> Observation:
        light = 1 + 0.1 * np.sin(observation.stamp_ns / 1e9)
        return of_camera('global', lambda _: (light * plain).astype(np.uint8))(observation)

    reference = Reference(merge([profile_of([grey(o) for o in episode(seed)]) for seed in range(6)]))
    told = {one.hypothesis.fault for one in reference.cameras['global'].likeness.tellings if one.gain is not None}
    assert not told & {'red_and_blue_exchanged', 'turned_180', 'turned_90', 'mirrored', 'flipped'}
    for fault in ('red_and_blue_exchanged', 'turned_180', 'mirrored'):
        observations = [FAULTS_OF_PICTURES[fault]('global')(grey(o)) for o in episode(105)]
        assert not [one for one in faults_in(reference, observations, unchanged)[0] if one.source == 'global']


def test_training_data_of_a_robot_at_rest() -> None:
    """Nothing is known of motion then, so nothing is told of it."""
    reference = Reference(merge([profile_of(episode(seed, 6.0, still=True)) for seed in range(6)]))
    found, _ = faults_in(reference, episode(2, 6.0, still=True), unchanged)
    assert not found and not reference.always_move.any()
    watcher = Watcher(reference)
    for observation in episode(106, 6.0):
        watcher.see(observation)
    assert not {told.fault for told in watcher.told.values()} & {'frozen', 'stuck'}
    assert all(np.isfinite(distance) for distance in watcher.distances.values())


def test_a_camera_that_sees_one_colour() -> None:
    plain = of_camera('left_wrist', lambda picture: np.full_like(picture, 120))
    reference = Reference(merge([profile_of([plain(o) for o in episode(seed, 6.0)]) for seed in range(6)]))
    found, _ = faults_in(reference, [plain(o) for o in episode(107, 6.0)], unchanged)
    assert [one for one in found if one.source == 'left_wrist'] == []
    shown, _ = faults_in(reference, episode(107), unchanged)
    assert 'left_wrist' in {one.source for one in shown}


def test_a_profile_of_one_bag_tells_only_what_is_gross(profiles: list[Profile], new_episodes: list[list[Observation]]) -> None:
    weak = Reference(profiles[0])
    assert weak.is_weak and not Reference(merge(profiles)).is_weak
    found, _ = faults_in(weak, new_episodes[0], FAULTS_OF_JOINTS['degrees'])
    assert 'degrees' in {one.fault for one in found}
    assert not {one.fault for one in faults_in(weak, new_episodes[1], unchanged)[0]} & {'exchanged', 'red_and_blue_exchanged'}


def test_a_faulty_bag_in_the_training_data_hides_no_fault(
    profiles: list[Profile], new_episodes: list[list[Observation]]
) -> None:
    """As where a camera was unplugged in one recording of many, and nobody saw it."""
    black = of_camera('left_wrist', np.zeros_like)
    faulty = profile_of([black(observation) for observation in episode(20)])
    reference = Reference(merge([*profiles, faulty]))
    assert [(one.source, one.fault) for one in judge(faulty.looks(), reference)] == [('left_wrist', 'covered')]
    assert not [one for profile in profiles for one in judge(profile.looks(), reference)]
    for fault in ('covered', 'too_dark', 'blurred', 'frozen'):
        found, _ = faults_in(reference, new_episodes[0], FAULTS_OF_PICTURES[fault]('left_wrist'))
        assert [(one.source, one.fault) for one in found] == [('left_wrist', fault)]
    assert faults_in(reference, new_episodes[1], unchanged)[0] == []


def test_a_fault_comes_and_goes(reference: Reference, new_episodes: list[list[Observation]]) -> None:
    watcher = Watcher(reference)
    sound, faulty = new_episodes[0], new_episodes[1]
    seconds = 1_000_000_000
    states = []
    for at, (source, change) in enumerate(((sound, unchanged), (faulty, upside_down('global')), (sound, unchanged))):
        for observation in source:
            shifted = change(Observation(**{**_fields(observation), 'stamp_ns': observation.stamp_ns + 12 * at * seconds}))
            states.append(bool(watcher.see(shifted)))
    assert not any(states[:60]) and all(states[90:120]) and not any(states[-20:])
    told = next(one for one in watcher.told.values() if one.fault == 'turned_180')
    assert {one.source for one in watcher.told.values()} == {'global'}  # the second in between is half of each
    assert 13 * seconds <= told.first_ns <= 19 * seconds and told.last_ns <= 29 * seconds


def test_a_clock_that_is_set_back_begins_a_new_window(reference: Reference, new_episodes: list[list[Observation]]) -> None:
    watcher = Watcher(reference)
    for observation in (*new_episodes[0], *new_episodes[1]):
        assert watcher.see(observation) == ()


def test_what_is_told_depends_on_the_observations_alone(reference: Reference, new_episodes: list[list[Observation]]) -> None:
    """Sets at 5 Hz and the same among others at 25 Hz give the same windows."""
    slow, _ = faults_in(reference, new_episodes[2], upside_down('left_wrist'))
    again, _ = faults_in(reference, new_episodes[2], upside_down('left_wrist'))
    assert slow == again and slow


def test_refusing_drops_with_the_fault(reference: Reference, new_episodes: list[list[Observation]]) -> None:
    warning, refusing = ContentInspector(reference, refuses=False), ContentInspector(reference, refuses=True)
    drops = []
    for observation in map(upside_down('global'), new_episodes[0]):
        assert warning.inspect(observation) is None
        drops.append(refusing.inspect(observation))
    assert drops[0] is None and drops[-1] is not None
    assert drops[-1].reason is Reason.CONTENT and drops[-1].key == 'content:turned_180' and drops[-1].stream == 'global'
    assert drops[-1].detail.startswith('global is upside down (') and warning.watcher.told == refusing.watcher.told


def _fields(observation: Observation) -> dict[str, object]:
    names = ('stamp_ns', 'images', 'joints', 'joint_positions', 'stamps_ns')
    return {name: getattr(observation, name) for name in names}
