"""Replay a recorded bag into the encoder node, on the bag's time.

    ros2 launch fused_encoder_ros replay.launch.py bag:=/data/session_01 checkpoint:=/data/policy_obs_encoder.pth
    ros2 launch fused_encoder_ros replay.launch.py bag:=/data/session_01 rate:=0.5 loop:=true

The arguments of fused_encoder.launch.py count here too. To turn bags into files, `fused-encoder encode` is faster and
misses nothing.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

HERE = Path(__file__).parent
PROFILES = HERE.parent / 'config' / 'fastdds_large_images.xml'

# Fast DDS 3 renamed it.
PROFILES_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
