"""Replay a recorded bag into the encoder node, on the bag's time.

    ros2 launch fused_encoder_ros replay.launch.py bag:=/data/session_01 checkpoint:=/data/policy_obs_encoder.pth
    ros2 launch fused_encoder_ros replay.launch.py bag:=/data/session_01 rate:=0.5 loop:=true

The arguments of fused_encoder.launch.py count here too. To turn bags into files, `fused-encoder encode` is faster and
misses nothing.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    RegisterEventHandler,
    Shutdown,
)
from launch.conditions import IfCondition, UnlessCondition
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

HERE = Path(__file__).resolve().parent


def generate_launch_description() -> LaunchDescription:
    """Player and node, ending together."""
    loop = LaunchConfiguration('loop')
    # The bag comes first: `--clock BAG` would be read as a rate. 100 Hz instead of 40, since the node's latencies are
    # no finer than the clock.
    play = ['ros2', 'bag', 'play', LaunchConfiguration('bag'), '--clock', '100']
    play += ['--rate', LaunchConfiguration('rate'), '--delay', LaunchConfiguration('delay')]
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='the bag: a rosbag2 folder, .mcap or .db3 file'),
            DeclareLaunchArgument('rate', default_value='1.0', description='speed; 2.0 is twice the recorded one'),
            DeclareLaunchArgument(
                'delay', default_value='5.0', description='seconds before the first message, for the node to load its model'
            ),
            DeclareLaunchArgument('loop', default_value='false', description='true begins again at the end'),
            DeclareLaunchArgument(
                'use_sim_time', default_value='true', description='true: the node takes its time from the bag'
            ),
            RegisterEventHandler(OnProcessExit(on_exit=[Shutdown(reason='player or encoder ended')])),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / 'fused_encoder.launch.py'))),
            ExecuteProcess(cmd=play, name='player', condition=UnlessCondition(loop), output='screen'),
            ExecuteProcess(cmd=[*play, '--loop'], name='player', condition=IfCondition(loop), output='screen'),
        ]
    )
