"""The environment of DDS, for programs that run robot and node by themselves. To be set before rclpy starts.

What differs between the distributions in it is here; what differs in rclpy is in ros/distributions.py.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping

from fused_encoder_ros.settings.installed import installed_file

LARGE_IMAGES_PROFILE = installed_file('config/fastdds_large_images.xml')

PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
"""They name Fast DDS's profile: the first up to Jazzy, the second from Kilted on, whose Fast DDS 3 renamed it."""


def on_this_host_alone(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What keeps DDS from other hosts; Humble has another variable, which later distributions warn of."""
    if environment.get('ROS_DISTRO') == 'humble':
        return {'ROS_LOCALHOST_ONLY': '1'}
    return {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


def keep_to_this_host() -> None:
    """A domain of its own on this host alone, so that no robot in the building is heard or disturbed, and large images.

    What the user has set stays.
    """
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.randint(1, 100)))
    for variable, value in on_this_host_alone().items():
        os.environ.setdefault(variable, value)
    if LARGE_IMAGES_PROFILE is not None:
        for variable in PROFILE_VARIABLES:
            os.environ.setdefault(variable, str(LARGE_IMAGES_PROFILE))
