"""Every test that talks DDS does so in a domain of its own, on this host alone."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis

ROOT = Path(__file__).parent.parent

os.environ['ROS_DOMAIN_ID'] = str(os.getpid() % 100 + 1)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
for variable in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
    os.environ[variable] = str(ROOT / 'config' / 'fastdds_large_images.xml')
os.environ.setdefault('ROS_LOG_DIR', str(ROOT / 'build' / 'ros_log'))

hypothesis.settings.register_profile('thorough', max_examples=20_000)
