"""What is configured: the parameters with their table and files, the topics, and the environment of DDS."""

from fused_encoder_ros.settings.files import (
    read_parameter_file,
    read_spec_file,
    read_stamp_offsets,
    sections_of,
    serves,
)
from fused_encoder_ros.settings.parameter import Parameter, Value
from fused_encoder_ros.settings.settings import NODE_NAME, Settings, cameras_of, refuse_unknown
from fused_encoder_ros.settings.table import (
    OF_EVERY_NODE,
    SPEC_PARAMETERS,
    STAMP_OFFSET,
    is_derived,
    parameters,
)
from fused_encoder_ros.settings.topics import (
    COMPRESSED_SUFFIX,
    absolute,
    expected_kind,
    is_compressed,
    refuse_shared_topics,
)
from fused_encoder_ros.settings.yaml_of_ros import load_yaml

__all__ = [
    'COMPRESSED_SUFFIX',
    'NODE_NAME',
    'OF_EVERY_NODE',
    'SPEC_PARAMETERS',
    'STAMP_OFFSET',
    'Parameter',
    'Settings',
    'Value',
    'absolute',
    'cameras_of',
    'expected_kind',
    'is_compressed',
    'is_derived',
    'load_yaml',
    'parameters',
    'read_parameter_file',
    'read_spec_file',
    'read_stamp_offsets',
    'refuse_shared_topics',
    'refuse_unknown',
    'sections_of',
    'serves',
]
