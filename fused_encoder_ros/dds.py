"""The environment of DDS, for programs that run robot and node by themselves. To be set before rclpy starts."""

from __future__ import annotations

import os
import random
from pathlib import Path

LARGE_IMAGES_PROFILE = Path(__file__).parent.parent / 'config' / 'fastdds_large_images.xml'

PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
"""They name Fast DDS's profile: the first up to Jazzy, the second from Kilted on, whose Fast DDS 3 renamed it."""


def keep_to_this_host() -> None:
    """A domain of its own on this host alone, so that no robot in the building is heard or disturbed, and large images.

    What the user has set stays.
    """
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.randint(1, 100)))
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    if LARGE_IMAGES_PROFILE.is_file():
        for variable in PROFILE_VARIABLES:
            os.environ.setdefault(variable, str(LARGE_IMAGES_PROFILE))
