"""The environment of DDS, for programs that run robot and node by themselves. To be set before rclpy starts."""

from __future__ import annotations

import os
import random
from pathlib import Path

_LARGE_IMAGES_PROFILE = Path(__file__).parent.parent / 'config' / 'fastdds_large_images.xml'


def keep_to_this_host() -> None:
    """A domain of its own on this host alone, so that no robot in the building is heard or disturbed, and large images.

    What the user has set stays.

    """
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.randint(1, 100)))
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    if _LARGE_IMAGES_PROFILE.is_file():
        for variable in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):  # Fast DDS 3 renamed it
            os.environ.setdefault(variable, str(_LARGE_IMAGES_PROFILE))
