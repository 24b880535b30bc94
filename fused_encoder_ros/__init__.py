"""Cameras and joint states in, one fused feature a set out; the same numbers live and from bags."""

__version__ = '0.1.0'
