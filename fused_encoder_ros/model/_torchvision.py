"""Import torchvision, also beside a torch whose build it was not compiled for.

A torchvision wheel from the package index beside a CPU-only torch, or beside a vendor's own torch on a Jetson, cannot
load its compiled operators. Its Python then fails on import, because it registers fake kernels for `torchvision::nms`
and, since 0.28, `torchvision::qnms`, operators that nobody has declared. Declaring their schemas is enough: models,
weights and transforms are plain Python. What stays unusable, `torchvision.ops.nms` and `torchvision.io`, this package does
not use.
"""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType

import torch

_MISSING = re.compile(r'operator torchvision::q?nms does not exist')
_SCHEMA = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'

# The declarations live as long as this object.
_declared: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """The torchvision package, with `torchvision.models` imported.

    Raises:
        ImportError: when torchvision is not installed, or fails for another reason than its missing operators.
    """
    try:
        return _import()
    except RuntimeError as error:
        if not _MISSING.search(str(error)):
            raise ImportError(f'torchvision does not import beside torch {torch.__version__}: {error}') from error
    for name in [name for name in sys.modules if name.split('.')[0] == 'torchvision']:
        del sys.modules[name]
    if not _declared:
        library = torch.library.Library('torchvision', 'FRAGMENT')
        for operator in ('nms', 'qnms'):
            library.define(operator + _SCHEMA)
        _declared.append(library)
    return _import()


def _import() -> ModuleType:
    importlib.import_module('torchvision.models')
    return sys.modules['torchvision']
