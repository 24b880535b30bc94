from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Somebody beside the robot; what is started through it ends with the test."""
    desk = Desk(tmp_path)
    yield desk
    desk.close()


@pytest.fixture
def desk_over_udp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """For tests that kill or suspend a process: over the shared memory between them, Fast DDS in the other may crash or lose
    the way to it (its issues 5469 and 6484).
    """
    for variable in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
        monkeypatch.delenv(variable)
    monkeypatch.setenv('FASTDDS_BUILTIN_TRANSPORTS', 'UDPv4')
    desk = Desk(tmp_path)
    yield desk
    desk.close()
