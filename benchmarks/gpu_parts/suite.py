"""The suite's own tests of the engine of this device."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Any

from gpu_parts.context import Context, Skipped
from gpu_parts.process import ROOT

_NO_TESTS = (4, 5)
"""pytest's codes for a conftest.py that does not import, and for nothing collected."""


def run(context: Context) -> dict[str, Any]:
    """Those of test/model that skip without CUDA; on a CPU a few of another engine."""
    if importlib.util.find_spec('pytest') is None:
        raise Skipped('not run: pytest is missing')
    which = '(cuda_graph or triton) and not kernels' if context.on_cuda else 'packed and (feature_stays or shapes)'
    command = [sys.executable, '-m', 'pytest', 'test/model', '-q', '-k', which, '-p', 'no:cacheprovider', '--tb=short']
    try:
        done = subprocess.run(
            [*command, '--continue-on-collection-errors'],
            cwd=ROOT,
            env=os.environ | {'PYTHONPATH': str(ROOT)},
            capture_output=True,
            text=True,
            timeout=context.left_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Skipped('time was up before the tests had ended') from error
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode in _NO_TESTS:
        raise Skipped('not run: ' + ' '.join(lines[-3:]))
    if done.returncode:
        raise AssertionError('\n'.join(lines[-80:]))
    return {'tests': which, 'said': lines[-1]}
