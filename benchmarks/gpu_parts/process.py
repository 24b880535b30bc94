"""Parts in processes of their own, so that a lost device, a full card or a hang costs one part and no other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent.parent / 'gpu.py'
ROOT = SCRIPT.parent.parent

_GRACE_S = 15.0


def run_part(name: str, arguments: Sequence[str], limit_s: float, own_group: bool = False) -> dict[str, Any]:
    """The record of a part: status, seconds, and result, reason or traceback.

    Args:
        name: the part.
        arguments: the script's own, for the part.
        limit_s: it is told to be done by then, and ended soon after.
        own_group: end what it has started with it.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / 'record.json', Path(folder) / 'log.txt'
        own = ['--part', name, '--record', str(path), '--seconds', str(limit_s)]
        with log.open('w') as stream:
            process = subprocess.Popen(
                [sys.executable, str(SCRIPT), *own, *arguments],
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=own_group,
            )
            ended_by = _wait(process, limit_s + _GRACE_S, own_group)
        record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        if ended_by:
            said = '\n'.join(log.read_text(errors='replace').splitlines()[-30:])
            record |= {'status': 'failed', 'reason': ended_by, 'traceback': f'{ended_by}; it said last:\n{said}'}
    return record | {'seconds': round(time.monotonic() - start, 1)}


def _wait(process: subprocess.Popen[bytes], limit_s: float, own_group: bool) -> str:
    """Why the process did not end by itself and well; '' when it did."""
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        with contextlib.suppress(ProcessLookupError):
            if own_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()
    if code is None:
        return f'not done after {limit_s:.0f} s'
    return f'its process ended with code {code}' if code else ''
