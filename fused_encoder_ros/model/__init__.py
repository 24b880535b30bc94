"""The encoder, its checkpoints and its engines, in torch alone: for training and for loading models.

Each name is imported when it is first used, because torch takes seconds to import.
"""

from typing import TYPE_CHECKING

from fused_encoder_ros._lazy import lazy

if TYPE_CHECKING:
    from fused_encoder_ros.model.checkpoint import content_hash, load_encoder
    from fused_encoder_ros.model.encoder import ImageJointEncoder, ResNet18Encoder, ThreeStreamEncoder
    from fused_encoder_ros.model.model import Model, load_model, release_memory
    from fused_encoder_ros.model.options import ModelOptions

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

__getattr__ = lazy(
    __name__,
    {
        'fused_encoder_ros.model.checkpoint': 'content_hash load_encoder',
        'fused_encoder_ros.model.encoder': 'ImageJointEncoder ResNet18Encoder ThreeStreamEncoder',
        'fused_encoder_ros.model.model': 'Model load_model release_memory',
        'fused_encoder_ros.model.options': 'ModelOptions',
    },
)
