"""The profile as a file: small, the same whatever the order, and refused when it is not what it should be."""

from __future__ import annotations

import contextlib
import io
import json
import random

import numpy as np
import pytest
from scenes import SPEC, episode, profile_of

from fused_encoder_ros.content.profile import Profile, ProfileMaker, merge
from fused_encoder_ros.content.reference import Reference
from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.spec import ObservationSpec


def test_the_order_of_bags_and_of_merging_makes_no_difference(profiles: list[Profile]) -> None:
    at_once = merge(profiles).to_bytes()
    assert merge(profiles[::-1]).to_bytes() == at_once
    assert merge([merge(profiles[:3]), merge([merge(profiles[3:6]), *profiles[6:]])]).to_bytes() == at_once
    assert merge([profile_of(episode(seed)) for seed in range(8)]).to_bytes() == at_once


def test_it_is_small_and_reads_back(profiles: list[Profile]) -> None:
    whole = merge(profiles)
    contents = whole.to_bytes()
    read = Profile.from_bytes(contents, 'x')
    assert len(contents) < 1_000_000 and np.array_equal(read.rows, whole.rows) and read.to_bytes() == contents
    assert (read.bags, read.sets, read.duration_ns) == (8, 8 * 60, 8 * 59 * 200_000_000)
    assert np.array_equal(read.lowest, whole.lowest) and (read.rows['joints'] >= read.lowest - 1e-6).all()


def test_many_cameras_stay_small() -> None:
    spec = ObservationSpec(cameras=tuple('abcdefgh'))
    profiles = []
    for seed in range(4):
        maker = ProfileMaker(spec)
        for observation in episode(seed, 40.0, spec=spec):
            maker.see(observation)
        features = np.random.default_rng(seed).normal(size=(len(maker.observations), 512)).astype(np.float32)
        profiles.append(maker.finish(features, 'hash'))
    assert len(merge(profiles).to_bytes()) < 1_000_000


def test_rows_are_spread_over_the_bags(profiles: list[Profile]) -> None:
    bags, counts = np.unique(merge([*profiles, profile_of(episode(9, 120.0))]).rows['bag'], return_counts=True)
    assert len(bags) == 9 and counts.min() >= 10


@pytest.mark.parametrize(
    ('spec', 'says'),
    [
        (ObservationSpec(cameras=('left', 'right', 'top')), "cameras ['left_wrist', 'right_wrist', 'global']"),
        (ObservationSpec(image_size=96), 'image_size 84, but the observation spec has 96'),
        (ObservationSpec(interpolation='area'), 'interpolation linear, but'),
        (ObservationSpec(joint_names=('a', 'b')), 'joint_names'),
    ],
)
def test_a_profile_of_other_observations_is_refused(profiles: list[Profile], spec: ObservationSpec, says: str) -> None:
    profiles[0].check_fits(SPEC, 'x')
    with pytest.raises(ConfigError) as error:
        profiles[0].check_fits(spec, 'file.npz')
    assert says in str(error.value) and str(error.value).startswith('file.npz: ')


def test_damage_anywhere_is_refused(profiles: list[Profile]) -> None:
    """Wherever it is: zipfile, zlib, NumPy's parser of headers and JSON each raise something else."""
    contents, chance = profiles[0].to_bytes(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(contents)
        at = chance.choice((chance.randrange(len(damaged)), chance.randrange(400), -1 - chance.randrange(400)))
        damaged[at] ^= 1 << chance.randrange(8)
        with contextlib.suppress(ConfigError):
            assert Profile.from_bytes(bytes(damaged), 'file.npz').to_bytes() == contents  # a date, say


def test_files_that_are_no_sound_profile_are_refused(profiles: list[Profile]) -> None:
    contents = profiles[0].to_bytes()

    def rewritten(**changes: object) -> bytes:
        with np.load(io.BytesIO(contents)) as arrays:
            about, rows = json.loads(arrays['about'].tobytes()), arrays['rows'].copy()
        if changes.pop('row', None):
            rows['joints'][0, 0] += 1e-3
        file = io.BytesIO()
        np.savez_compressed(file, about=np.frombuffer(json.dumps({**about, **changes}).encode(), np.uint8), rows=rows)
        return file.getvalue()

    for bad, says in (
        (contents[: len(contents) // 2], 'not a profile, or it is truncated'),
        (b'', 'not a profile'),
        (b'\x00' * 1000, 'not a profile'),
        (rewritten(sets=5), 'was altered after it was written'),
        (rewritten(row=True), 'was altered'),
        (rewritten(format=99, version='9.9'), 'of format 99, written by version 9.9'),
    ):
        with pytest.raises(ConfigError, match=says):
            Profile.from_bytes(bad, 'file.npz')
    file = io.BytesIO()
    np.savez(file, rows=np.zeros(3))
    with pytest.raises(ConfigError, match='not a profile'):
        Profile.from_bytes(file.getvalue(), 'file.npz')


def test_profiles_that_do_not_belong_together(profiles: list[Profile]) -> None:
    with pytest.raises(ConfigError, match='the same bag is in two'):
        merge([profiles[0], profiles[1], profiles[0]])
    maker = ProfileMaker(SPEC)
    for observation in episode(20):
        maker.see(observation)
    features = np.ones((len(maker.observations), 8), np.float32)
    with pytest.raises(ConfigError, match='features come from encoders with different weights'):
        merge([profiles[0], maker.finish(features, 'hash')])
    with pytest.raises(ConfigError, match='cameras'):
        spec = ObservationSpec(cameras=('global',))
        merge([profiles[0], profile_of(episode(21, spec=spec), spec)])


def test_too_little_to_see() -> None:
    with pytest.raises(ConfigError, match='1 sets are too few for a profile'):
        profile_of(episode(0, 0.3))


def test_features_that_never_change_do_not_count(profiles: list[Profile]) -> None:
    made = []
    for seed in range(6):
        maker = ProfileMaker(SPEC)
        for observation in episode(seed, 6.0):
            maker.see(observation)
        features = np.random.default_rng(seed).normal(size=(len(maker.observations), 8)).astype(np.float32)
        features[:, :5] = 0.0
        made.append(maker.finish(features, 'hash'))
    reference = Reference(merge(made))
    assert reference.features is not None and reference.changing.tolist() == [False] * 5 + [True] * 3
    assert Reference(profiles[0]).features is None
