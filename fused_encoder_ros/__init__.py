"""Cameras and joint states in, one fused feature a set out; the same numbers live and from bags.

What `__all__` names is public, and documented in docs/how-to/use-from-python.md. It needs no ROS, and torch only for the
model: each name is imported when it is first used. Everything else in the package may change without notice.
"""

from typing import TYPE_CHECKING

from fused_encoder_ros._lazy import lazy

__version__ = '0.1.0'

if TYPE_CHECKING:
    from fused_encoder_ros.errors import (
        BagError,
        CheckpointError,
        ConfigError,
        EngineError,
        FusedEncoderError,
        OutputError,
    )
    from fused_encoder_ros.model.model import Model, load_model
    from fused_encoder_ros.offline.encode import encode_bag
    from fused_encoder_ros.offline.observations import encode_observations, read_observations
    from fused_encoder_ros.pipeline.data import Drop, Feature, Observation, Reason, Reject
    from fused_encoder_ros.pipeline.pipeline import Pipeline
    from fused_encoder_ros.settings.files import read_parameter_file
    from fused_encoder_ros.settings.settings import Settings
    from fused_encoder_ros.spec import ObservationSpec

__all__ = [
    'BagError',
    'CheckpointError',
    'ConfigError',
    'Drop',
    'EngineError',
    'Feature',
    'FusedEncoderError',
    'Model',
    'Observation',
    'ObservationSpec',
    'OutputError',
    'Pipeline',
    'Reason',
    'Reject',
    'Settings',
    'encode_bag',
    'encode_observations',
    'load_model',
    'read_observations',
    'read_parameter_file',
]

__getattr__ = lazy(
    __name__,
    {
        'fused_encoder_ros.errors': 'BagError CheckpointError ConfigError EngineError FusedEncoderError OutputError',
        'fused_encoder_ros.model.model': 'Model load_model',
        'fused_encoder_ros.offline.encode': 'encode_bag',
        'fused_encoder_ros.offline.observations': 'encode_observations read_observations',
        'fused_encoder_ros.pipeline.data': 'Drop Feature Observation Reason Reject',
        'fused_encoder_ros.pipeline.pipeline': 'Pipeline',
        'fused_encoder_ros.settings.files': 'read_parameter_file',
        'fused_encoder_ros.settings.settings': 'Settings',
        'fused_encoder_ros.spec': 'ObservationSpec',
    },
)
