"""The oldest torch that the model runs on."""

from __future__ import annotations

import re

import torch

OLDEST = '2.1'


def check_torch(version: str = torch.__version__) -> None:
    """Raises ImportError, naming both versions, when torch is older than `OLDEST`."""
    if _numbers(version) < _numbers(OLDEST):
        raise ImportError(f'torch {version} is too old: the encoder needs torch {OLDEST} or newer; install a newer torch')


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor; vendors add letters, as in 2.1.0a0+nv23.06."""
    return tuple(int(number) for number in re.findall(r'\d+', version)[:2])
