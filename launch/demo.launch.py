"""Start the synthetic robot and the encoder node: the whole chain on real DDS, with no robot.

    ros2 launch fused_encoder_ros demo.launch.py
    ros2 topic hz /fused_encoder/fused_feature

The arguments of fused_encoder.launch.py count here too.
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

HERE = Path(__file__).resolve().parent
PROFILES = HERE.parent / 'config' / 'fastdds_large_images.xml'

# Fast DDS 3 renamed it.
PROFILES_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


def generate_launch_description() -> LaunchDescription:
    """Robot and node, ending together."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'large_images',
                default_value='true',
                description='true gives Fast DDS shared memory that holds camera images; false leaves its settings alone',
            ),
            *(
                SetEnvironmentVariable(name, str(PROFILES), condition=IfCondition(LaunchConfiguration('large_images')))
                for name in PROFILES_VARIABLES
            ),
            # A robot without its encoder, or the other way round, shows nothing.
            RegisterEventHandler(OnProcessExit(on_exit=[Shutdown(reason='robot or encoder ended')])),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / 'fused_encoder.launch.py'))),
            # After the include, which declares the namespace.
            Node(package='fused_encoder_ros', executable='rig', namespace=LaunchConfiguration('namespace'), output='screen'),
        ]
    )
