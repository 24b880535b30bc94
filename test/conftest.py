"""Every test that talks DDS does so in a domain of its own, on this host alone."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis

from fused_encoder_ros.settings.dds import PROFILE_VARIABLES, on_this_host_alone

ROOT = Path(__file__).parent.parent

os.environ['ROS_DOMAIN_ID'] = str(os.getpid() % 100 + 1)
os.environ.update(on_this_host_alone())
os.environ.update(dict.fromkeys(PROFILE_VARIABLES, str(ROOT / 'config' / 'fastdds_large_images.xml')))
os.environ.setdefault('ROS_LOG_DIR', str(ROOT / 'build' / 'ros_log'))

hypothesis.settings.register_profile('thorough', max_examples=20_000)
