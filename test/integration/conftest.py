from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Desk

from fused_encoder_ros.settings.dds import PROFILE_VARIABLES


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Somebody beside the robot; what is started through it ends with the test.

    Over UDP: where processes are killed, suspended or starved, as on a machine full of tests, Fast DDS may lose the way
    between them over shared memory (its issues 5469 and 6484). The profile keeps it to this host: where ROS 2 does that,
    it adds shared memory to any transports.
    """
    for variable in PROFILE_VARIABLES:
        monkeypatch.setenv(variable, str(Path(__file__).parent / 'udp_on_this_host.xml'))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'SYSTEM_DEFAULT')
    yield from _desk(tmp_path)


@pytest.fixture
def desk_with_usual_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """As `desk`, over whatever DDS uses by itself: of shared memory so little that images get lost."""
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable)
    yield from _desk(tmp_path)


@pytest.fixture
def desk_with_large_images(tmp_path: Path) -> Iterator[Desk]:
    """As `desk`, over shared memory with the package's profile, as on a robot."""
    yield from _desk(tmp_path)


def _desk(folder: Path) -> Iterator[Desk]:
    desk = Desk(folder)
    yield desk
    desk.close()
