"""Encodes time-matched camera images and joint states into one feature each, live in ROS 2 and from bags.

The names in `__all__`, and those in `fused_encoder_ros.model.__all__`, are public; docs/how-to/use-from-python.md shows how to
use them. They need no ROS, and only the model needs torch: each name is imported when it is first used. Everything else may
change without notice.
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
    from fused_encoder_ros.model.options import ModelOptions
    from fused_encoder_ros.offline.encode import Summary, encode_bag
    from fused_encoder_ros.offline.observations import encode_observations, read_observations
    from fused_encoder_ros.pipeline.data import Drop, Feature, Observation, Reason, Reject
    from fused_encoder_ros.pipeline.options import SyncOptions
    from fused_encoder_ros.pipeline.pipeline import Counts, Pipeline
    from fused_encoder_ros.settings.files import read_parameter_file
    from fused_encoder_ros.settings.settings import Settings
    from fused_encoder_ros.spec import ObservationSpec

__all__ = [
    'BagError',
    'CheckpointError',
    'ConfigError',
    'Counts',
    'Drop',
    'EngineError',
    'Feature',
    'FusedEncoderError',
    'Model',
    'ModelOptions',
    'Observation',
    'ObservationSpec',
    'OutputError',
    'Pipeline',
    'Reason',
    'Reject',
    'Settings',
    'Summary',
    'SyncOptions',
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
        'fused_encoder_ros.model.options': 'ModelOptions',
        'fused_encoder_ros.offline.encode': 'Summary encode_bag',
        'fused_encoder_ros.offline.observations': 'encode_observations read_observations',
        'fused_encoder_ros.pipeline.data': 'Drop Feature Observation Reason Reject',
        'fused_encoder_ros.pipeline.options': 'SyncOptions',
        'fused_encoder_ros.pipeline.pipeline': 'Counts Pipeline',
        'fused_encoder_ros.settings.files': 'read_parameter_file',
        'fused_encoder_ros.settings.settings': 'Settings',
        'fused_encoder_ros.spec': 'ObservationSpec',
    },
)
