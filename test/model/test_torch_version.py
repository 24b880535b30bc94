"""An old torch is refused by name, not by whatever is missing in it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fused_encoder_ros.model._torch import check_torch


@pytest.mark.parametrize('version', ['2.1.0', '2.1.0a0+41361538.nv23.06', '2.13.0+cpu', '3.0'])
def test_new_enough(version: str) -> None:
    check_torch(version)


@pytest.mark.parametrize('version', ['2.0.1', '1.13.1+cu117', '2.0.0+nv23.05'])
def test_too_old(version: str) -> None:
    with pytest.raises(ImportError) as caught:
        check_torch(version)
    assert f'torch {version} is too old: the encoder needs torch 2.1 or newer' in str(caught.value)


def test_the_command_says_so_in_a_line() -> None:
    code = """
import sys, torch
torch.__version__ = '2.0.1'
from fused_encoder_ros.cli import main
sys.exit(main(['bench', 'model']))
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stderr.startswith('fused-encoder: torch 2.0.1 is too old'), result.stderr
