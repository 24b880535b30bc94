"""Every test that talks DDS does so in a domain of its worker's own, on this host alone."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis

from fused_encoder_ros import _program  # noqa: F401  # as the programs do, before NumPy
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
