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
