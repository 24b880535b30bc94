"""Start the encoder node; it configures and activates itself.

    ros2 launch fused_encoder_ros fused_encoder.launch.py checkpoint:=/data/policy_obs_encoder.pth
    ros2 launch fused_encoder_ros fused_encoder.launch.py params_file:=robot.yaml namespace:=robot1 device:=cuda:0
    ros2 launch fused_encoder_ros fused_encoder.launch.py global:=/head/color/image_raw joint_states:=/arms/joint_states
    ros2 launch fused_encoder_ros fused_encoder.launch.py cameras:='[front, wrist]' front:=/front/image_raw wrist:=/wrist/image

The arguments are what differs between deployments; everything else stands in the parameter file. An argument that is not
given leaves the file's value alone. Each camera's name is an argument too: its topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from fused_encoder_ros.errors import FusedEncoderError
from fused_encoder_ros.settings import cameras_of, read_parameter_file

CONFIG = Path(__file__).resolve().parents[1] / 'config'

# Fast DDS 3 renamed it.
PROFILES_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')

# Argument: the parameter that it overrides, the parameter's type (None: as YAML reads it), and what it is.
OVERRIDES = {
    'checkpoint': ('checkpoint', str, "path of the encoder's state dict or of a packed checkpoint"),
    'device': ('device', str, 'auto, cpu, cuda or cuda:N'),
    'cameras': ('cameras', None, 'names of the cameras: [front, wrist]; each name is then an argument too, with its topic'),
    'left_wrist': ('topics.left_wrist', str, 'topic of the left wrist camera'),
    'right_wrist': ('topics.right_wrist', str, 'topic of the right wrist camera'),
    'global': ('topics.global', str, 'topic of the global camera'),
    'joint_states': (
        'topics.joint_states',
        None,
        'topic of the joint states, or topics: [/left/joint_states, /right/joint_states]',
    ),
    'autostart': ('autostart', bool, 'true, or false to let a lifecycle manager configure and activate the node'),
    'use_sim_time': ('use_sim_time', bool, 'true takes the time from /clock, as in a simulation or a replay'),
}

# Arguments that mean something else; a camera of such a name gets its topic from the parameter file.
DECLARED = {*OVERRIDES, 'params_file', 'namespace', 'log_level', 'large_images'}


def generate_launch_description() -> LaunchDescription:
    """The arguments and the node."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'params_file', default_value=str(CONFIG / 'fused_encoder.yaml'), description='YAML file of all parameters'
            ),
            DeclareLaunchArgument(
                'namespace', default_value='', description='namespace of the node, and of each topic that is not absolute'
            ),
            *(
                DeclareLaunchArgument(name, default_value='', description=f'{description}; empty: as in params_file')
                for name, (_, _, description) in OVERRIDES.items()
            ),
            DeclareLaunchArgument(
                'log_level',
                default_value='info',
                choices=['debug', 'info', 'warn', 'error', 'fatal'],
                description='the least severe messages that the log shows',
            ),
            DeclareLaunchArgument(
                'large_images',
                default_value='true',
                choices=['true', 'false'],
                description='true gives Fast DDS and Cyclone DDS buffers that hold images, unless they are configured already',
            ),
            OpaqueFunction(function=_middleware),
            OpaqueFunction(function=_node),
        ]
    )


def _cameras(params_file: str, given: Mapping[str, str]) -> tuple[str, ...]:
    """The node's cameras: as an argument says, the parameter file or the packed checkpoint."""
    try:
        stated = {name: yaml.safe_load(text) for name, text in given.items() if name in ('cameras', 'checkpoint')}
        return cameras_of({**read_parameter_file(params_file), **stated})
    except (FusedEncoderError, yaml.YAMLError):
        return ()  # the node says what is wrong


def _middleware(context: LaunchContext) -> list[SetEnvironmentVariable]:
    if LaunchConfiguration('large_images').perform(context) != 'true':
        return []
    variables = {}
    if not any(name in context.environment for name in PROFILES_VARIABLES):
        variables |= dict.fromkeys(PROFILES_VARIABLES, str(CONFIG / 'fastdds_large_images.xml'))
    if 'CYCLONEDDS_URI' not in context.environment:
        variables['CYCLONEDDS_URI'] = f'file://{CONFIG / "cyclonedds_large_images.xml"}'
    return [SetEnvironmentVariable(name, value) for name, value in variables.items()]


def _node(context: LaunchContext) -> list[Node]:
    params_file = LaunchConfiguration('params_file').perform(context)
    if not Path(params_file).is_file():
        # launch would only warn, and the node would run on defaults.
        raise FileNotFoundError(f'params_file: {params_file} is not a file')
    given = {name: text for name in OVERRIDES if (text := LaunchConfiguration(name).perform(context))}
    topics = {
        camera: (f'topics.{camera}', str)
        for camera in _cameras(params_file, given)
        if camera not in DECLARED and context.launch_configurations.get(camera)
    }
    overrides = {
        parameter: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, (parameter, kind, *_) in ({name: OVERRIDES[name] for name in given} | topics).items()
    }
    return [
        Node(
            package='fused_encoder_ros',
            executable='fused_encoder',
            name='fused_encoder',
            namespace=LaunchConfiguration('namespace'),
            parameters=[params_file, *([overrides] if overrides else [])],
            ros_arguments=['--log-level', LaunchConfiguration('log_level')],
            output='screen',
        )
    ]
