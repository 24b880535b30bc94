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
    between them over shared memory (its issues 5469 and 6484).
    """
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable)
    monkeypatch.setenv('FASTDDS_BUILTIN_TRANSPORTS', 'UDPv4')
    desk = Desk(tmp_path)
    yield desk
    desk.close()


@pytest.fixture
def desk_with_large_images(tmp_path: Path) -> Iterator[Desk]:
    """As `desk`, over shared memory with the package's profile, as on a robot."""
    desk = Desk(tmp_path)
    yield desk
    desk.close()
