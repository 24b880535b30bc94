"""The inference engines: uint8 sets in, float32 features out. To add one, add it to `choose.py`'s table."""

from fused_encoder_ros.model.engines.choose import Choice, can_run, choose_engine, device_for
from fused_encoder_ros.model.engines.engine import ERROR_BOUNDS, Engine, choose_device, relative_error

__all__ = ['ERROR_BOUNDS', 'Choice', 'Engine', 'can_run', 'choose_device', 'choose_engine', 'device_for', 'relative_error']
