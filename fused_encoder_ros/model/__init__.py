"""The encoder, its checkpoints and its engines. Torch only: no ROS messages."""

from fused_encoder_ros.model.checkpoint import content_hash, load_encoder
from fused_encoder_ros.model.encoder import ImageJointEncoder, ResNet18Encoder, ThreeStreamEncoder
from fused_encoder_ros.model.model import Model, load_model, release_memory
from fused_encoder_ros.options import ModelOptions

__all__ = [
    'ImageJointEncoder',
    'Model',
    'ModelOptions',
    'ResNet18Encoder',
    'ThreeStreamEncoder',
    'content_hash',
    'load_encoder',
    'load_model',
    'release_memory',
]
