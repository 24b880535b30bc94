"""Every test that talks DDS does so in a domain of its worker's own, on this host alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import hypothesis
import pytest

from fused_encoder_ros.settings.dds import PROFILE_VARIABLES, on_this_host_alone

ROOT = Path(__file__).parent.parent

_WORKER = os.environ.get('PYTEST_XDIST_WORKER')  # gw0, gw1, … where tests run side by side

_DOMAIN = os.getppid() + int(_WORKER[2:]) if _WORKER else os.getpid()
os.environ['ROS_DOMAIN_ID'] = str(_DOMAIN % 100 + 1)
os.environ.update(on_this_host_alone())
os.environ.update(dict.fromkeys(PROFILE_VARIABLES, str(ROOT / 'config' / 'fastdds_large_images.xml')))
os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'  # threads that wait must not spin while other tests want the processor
os.environ.setdefault('ROS_LOG_DIR', str(ROOT / 'build' / 'ros_log'))

hypothesis.settings.register_profile('thorough', max_examples=20_000)


@pytest.fixture(autouse=True)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The machine, shared with the tests of other workers; a test marked `alone` has it for itself.

    Whoever waits for the machine holds the door, so that the one that wants to be alone is not passed by for ever.
    """
    if _WORKER is None:
        yield
        return
    folder = tmp_path_factory.getbasetemp().parent
    with ExitStack() as held:
        with _lock(folder / 'door', fcntl.LOCK_EX):
            is_alone = request.node.get_closest_marker('alone')
            held.enter_context(_lock(folder / 'machine', fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH))
        yield


@contextmanager
def _lock(path: Path, how: int) -> Iterator[None]:
    with path.open('w') as file:
        fcntl.flock(file, how)
        yield
