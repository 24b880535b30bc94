"""torchvision imports beside a torch whose operators it cannot load, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run(code: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, '-c', code, *arguments], capture_output=True, text=True, check=True).stdout


def test_models_work_after_our_import() -> None:
    code = """
from fused_encoder_ros.model._torchvision import import_torchvision
torchvision = import_torchvision()
import torch, torchvision as again
assert again is torchvision and import_torchvision() is torchvision
print(torchvision.models.resnet18(weights=None).eval()(torch.zeros(1, 3, 64, 64)).shape[1])
from torchvision import transforms
print(transforms.Resize((84, 84))(torch.zeros(3, 100, 90)).shape[1])
"""
    assert run(code).split() == ['1000', '84']


def test_the_compiler_is_imported_by_those_who_use_it_alone() -> None:
    code = """
import sys
import fused_encoder_ros.model.encoder
assert 'torch._dynamo' not in sys.modules, 'it costs a second and 140 MB'
import torch
from torchvision.ops import roi_align
assert roi_align.__globals__['is_compile_supported']('cpu') and torch._dynamo.is_compiling() is False
print(torch.compile(torch.nn.Linear(3, 2), backend='eager')(torch.zeros(1, 3)).shape[1])
"""
    assert run(code).split() == ['2']


def test_a_torchvision_that_needs_more_of_the_compiler(tmp_path: Path) -> None:
    package = tmp_path / 'torchvision'
    package.mkdir()
    (package / '__init__.py').touch()
    (package / 'models.py').write_text('from torch._dynamo.utils import counters')
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from fused_encoder_ros.model._torchvision import import_torchvision
print(type(import_torchvision().models.counters).__name__)
"""
    assert run(code, str(tmp_path)).split() == ['defaultdict']


def test_another_failure_is_not_hidden(tmp_path: Path) -> None:
    """A torchvision that is broken otherwise: the error says so, and is not taken for the known one."""
    package = tmp_path / 'torchvision'
    package.mkdir()
    (package / '__init__.py').write_text("raise RuntimeError('operator torchvision::roi_pool does not exist')")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
try:
    import fused_encoder_ros.model.encoder
except ImportError as error:
    print(error)
"""
    assert 'torchvision does not import' in run(code, str(tmp_path)) and 'roi_pool' in run(code, str(tmp_path))
