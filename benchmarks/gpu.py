"""Everything about the model on a GPU in one run of less than eight minutes: is it right, sturdy, fast, and why not faster?

    python benchmarks/gpu.py --out benchmarks/results/gpu.json

Needs torch, torchvision and numpy; safetensors, pytest, ONNX Runtime and TensorRT are used where they are installed. Each part
runs in a process of its own: one that fails, hangs or loses the device costs no other. What failed is named with its
traceback, and the exit code is then 1. `--device cpu --reduced` runs a little of everything that needs no GPU.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import shlex
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]  # also where nothing of ours is installed

from gpu_parts.process import run_part  # noqa: E402
from gpu_parts.summary import as_text, goals  # noqa: E402

from fused_encoder_ros import _program  # noqa: E402, F401  # as the programs do, before NumPy


@dataclass(frozen=True)
class Part:
    """Where it is, how long it may take, with how little it is not begun; what takes times has the machine to itself."""

    function: str
    limit_s: float
    least_s: float = 15.0
    timed: bool = True


# In this order, so that what takes longest and matters least comes last.
PARTS = {
    'machine': Part('machine.run', 60),
    'correctness': Part('correctness.run', 150, timed=False),
    'suite': Part('suite.run', 180, timed=False),
    'speed': Part('speed.run', 110),
    'anatomy': Part('anatomy.run', 70),
    'robustness': Part('robustness.run', 110),
    'convolutions': Part('convolutions.run', 60),
    'memory': Part('memory.run', 60),
    'training': Part('training.run', 60),
    'others': Part('others.run', 240),
}
HELPERS = {'features': Part('robustness.features_of_all', 60), 'occupy': Part('robustness.occupy', 60)}
"""What parts start in further processes."""


def main() -> int:
    """Run all parts; the exit code."""
    options = _options()
    if missing := [name for name in ('torch', 'torchvision', 'numpy') if importlib.util.find_spec(name) is None]:
        print(f'benchmarks/gpu.py needs {" and ".join(missing)}, which this Python does not have', file=sys.stderr)
        return 1
    if options.part:
        return _serve(options)
    deadline = time.monotonic() + options.minutes * 60
    arguments = ['--device', options.device, '--checkpoint', options.checkpoint, *(['--reduced'] if options.reduced else [])]
    records: dict[str, Any] = {}

    def run(name: str) -> None:
        records[name] = _record(name, arguments, deadline - time.monotonic(), records)
        print(f'{name:<14}{records[name]["status"]:<9}{records[name]["seconds"]:>6.1f} s', file=sys.stderr, flush=True)

    run('machine')
    names = [name for name in PARTS if name in (options.only or PARTS) and name != 'machine']
    untimed = [name for name in names if not PARTS[name].timed]
    share = {'OMP_NUM_THREADS': str(max(1, (os.cpu_count() or 1) // max(1, len(untimed))))}
    with mock.patch.dict(os.environ, share), ThreadPoolExecutor() as beside_each_other:
        list(beside_each_other.map(run, untimed))
    for name in names:
        if PARTS[name].timed:
            run(name)
            _write(options.out, _result(options, records, names))  # what ends this early does not lose it
    result = _result(options, records, names)
    text = _write(options.out, result)
    print(text)
    if options.out:
        print(f'\nwrote {options.out} and {options.out.with_suffix(".txt")}')
    return 1 if result['failed'] else 0


def _result(options: argparse.Namespace, records: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {
        'command': shlex.join(['python', *sys.argv]),
        'machine': records['machine'].get('result', {}),
        'reduced': options.reduced,
        'failed': _failures(records),
        'goals': goals(records),
        'parts': {name: records[name] for name in names if name in records},
    }


def _write(path: Path | None, result: dict[str, Any]) -> str:
    text = as_text(result)
    if path:
        path.write_text(json.dumps(result, indent=2) + '\n')
        path.with_suffix('.txt').write_text(text + '\n')
    return text


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cuda', help='cuda, cuda:N or cpu (default: cuda)')
    parser.add_argument('--reduced', action='store_true', help='a few rounds of everything, to see that it runs')
    parser.add_argument(
        '--only', nargs='+', choices=[name for name in PARTS if name != 'machine'], metavar='PART', help='these alone'
    )
    parser.add_argument('--checkpoint', default='', metavar='PATH', help='check this one too')
    parser.add_argument('--minutes', type=float, default=7.5, help='what does not fit is skipped and named (default: 7.5)')
    parser.add_argument('--out', type=Path, metavar='JSON', help='write everything here, and the summary beside it as .txt')
    parser.add_argument('--part', choices=[*PARTS, *HELPERS], help=argparse.SUPPRESS)
    parser.add_argument('--record', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--seconds', type=float, default=60.0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _record(name: str, arguments: list[str], left_s: float, records: dict[str, Any]) -> dict[str, Any]:
    part = PARTS[name]
    if records and records['machine']['status'] != 'done':
        return {'status': 'skipped', 'reason': 'the device cannot be used', 'seconds': 0.0}
    if left_s < part.least_s:
        return {'status': 'skipped', 'reason': 'no time was left', 'seconds': 0.0}
    return run_part(name, arguments, min(part.limit_s, left_s), own_group=True)


def _serve(options: argparse.Namespace) -> int:
    """One part, in its process: what it found goes into the file `--record`, also when it fails half-way."""
    record: dict[str, Any] = {'status': 'failed'}

    def write(result: dict[str, Any]) -> None:
        record['result'] = result
        options.record.write_text(json.dumps(record, default=str))

    try:
        import torch
        from gpu_parts.context import Context, Skipped

        from fused_encoder_ros.model.engines import choose_device

        module, function = {**PARTS, **HELPERS}[options.part].function.split('.')
        run = getattr(importlib.import_module(f'gpu_parts.{module}'), function)
        context = Context(choose_device(options.device), options.reduced, options.checkpoint, options.seconds, write)
        if not context.on_cuda:
            torch.set_num_threads(1)  # two processes that share two cores would wait for each other most of the time
        try:
            record['result'] = run(context)
            record['status'] = 'done'
        except Skipped as skipped:
            record |= {'status': 'skipped', 'reason': str(skipped)}
    except Exception as error:
        record |= {'reason': f'{type(error).__name__}: {error}', 'traceback': traceback.format_exc()}
    options.record.write_text(json.dumps(record, default=str))
    return 0


def _failures(records: dict[str, Any]) -> dict[str, str]:
    """The tracebacks of parts and checks that failed."""
    failed = {name: record.get('traceback', '') for name, record in records.items() if record['status'] == 'failed'}
    for name, record in records.items():
        checks = record.get('result') or {}
        failed |= {
            f'{name}: {check}': row['traceback']
            for check, row in checks.items()
            if isinstance(row, dict) and row.get('status') == 'failed'
        }
    return failed


if __name__ == '__main__':
    sys.exit(main())
