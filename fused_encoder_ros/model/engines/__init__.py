"""The inference engines: uint8 sets in, float32 features out. To add one, add it to `choose.py`'s table."""

from fused_encoder_ros.model.engines.choose import ENGINES, Choice, choose_engine
from fused_encoder_ros.model.engines.engine import ERROR_BOUNDS, PRECISIONS, Engine, choose_device, relative_error

__all__ = ['ENGINES', 'ERROR_BOUNDS', 'PRECISIONS', 'Choice', 'Engine', 'choose_device', 'choose_engine', 'relative_error']
