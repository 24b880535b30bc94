"""The training data and an episode of its own, made once."""

from __future__ import annotations

import pytest
from scenes import episode, profile_of

from fused_encoder_ros.content.profile import Profile, merge
from fused_encoder_ros.content.reference import Reference
from fused_encoder_ros.pipeline.data import Observation


@pytest.fixture(scope='session')
def profiles() -> list[Profile]:
    """Of eight episodes, one each."""
    return [profile_of(episode(seed)) for seed in range(8)]


@pytest.fixture(scope='session')
def reference(profiles: list[Profile]) -> Reference:
    """What eight episodes teach."""
    return Reference(merge(profiles))


@pytest.fixture(scope='session')
def new_episodes() -> list[list[Observation]]:
    """Three episodes that were not trained on."""
    return [episode(seed) for seed in (101, 102, 103)]
