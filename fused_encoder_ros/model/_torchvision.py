"""Import torchvision quickly, also beside a torch whose build it was not compiled for.

A torchvision wheel from the package index beside a CPU-only torch, or beside a vendor's own torch on a Jetson, cannot
load its compiled operators. Its Python then fails on import, because it registers fake kernels for `torchvision::nms`
and, since 0.28, `torchvision::qnms`, operators that nobody has declared. Declaring their schemas is enough: models,
weights and transforms are plain Python. What stays unusable, `torchvision.ops.nms` and `torchvision.io`, this package does
not use.

One of its operators imports a function of torch's compiler, and with it the whole compiler: a second of CPU and 140 MB in each
process. Here the function is imported when it is called.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

_MISSING = re.compile(r'operator torchvision::q?nms does not exist')
_COMPILER = 'torch._dynamo'
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
    _forget()
    if not _declared:
        library = torch.library.Library('torchvision', 'FRAGMENT')
        for operator in ('nms', 'qnms'):
            library.define(operator + _SCHEMA)
        _declared.append(library)
    return _import()


def _import() -> ModuleType:
    try:
        with _without_the_compiler():
            importlib.import_module('torchvision.models')
    except ImportError as error:
        if _COMPILER not in str(error):
            raise
        # This torchvision wants more of the compiler than the stand-in has.
        _forget()
        importlib.import_module('torchvision.models')
    return sys.modules['torchvision']


def _forget() -> None:
    for name in [name for name in sys.modules if name.split('.')[0] == 'torchvision']:
        del sys.modules[name]


@contextmanager
def _without_the_compiler() -> Iterator[None]:
    """Meanwhile a stand-in has the one function of torch's compiler that torchvision imports."""
    if _COMPILER in sys.modules:
        yield
        return
    stand_ins = {name: ModuleType(name) for name in (_COMPILER, f'{_COMPILER}.utils')}
    for stand_in in stand_ins.values():
        stand_in.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)
