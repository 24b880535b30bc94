"""benchmarks/gpu.py runs: all of it but what needs a GPU, a little of each; and it says what fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / 'benchmarks' / 'gpu.py'
PARTS = ['correctness', 'suite', 'speed', 'anatomy', 'robustness', 'convolutions', 'memory', 'training', 'others']


def run(path: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON and what was printed."""
    command = [sys.executable, str(SCRIPT), '--out', str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert path.is_file(), done.stderr
    return done.returncode, json.loads(path.read_text()), done.stdout


def test_everything_runs_on_a_cpu(tmp_path: Path) -> None:
    code, result, text = run(tmp_path / 'gpu.json', '--device', 'cpu', '--reduced')
    assert code == 0 and not result['failed'], text
    assert list(result['parts']) == PARTS
    assert all(part['status'] == 'done' for part in result['parts'].values()), text
    assert result['machine']['torch'] and result['command'].startswith('python ')
    checks = result['parts']['correctness']['result'] | result['parts']['robustness']['result']
    assert {check['status'] for check in checks.values()} == {'passed', 'skipped'}
    assert all('needs CUDA' in check['reason'] for check in checks.values() if check['status'] == 'skipped')
    assert result['parts']['speed']['result']['hot']['single packed fp32']['p50_ms'] > 0
    choices = result['parts']['convolutions']['result']
    assert all(choice['error alone'] <= choice['bound'] for choice in choices.values()), choices
    assert (tmp_path / 'gpu.txt').read_text().rstrip().endswith('nothing failed')


def test_what_fails_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    arguments = ['--device', 'cpu', '--reduced', '--checkpoint', 'absent.pth', '--only', 'correctness', 'convolutions']
    code, result, text = run(tmp_path / 'gpu.json', *arguments)
    assert code == 1
    ((name, traceback),) = result['failed'].items()
    assert name == 'correctness: checkpoint absent.pth'
    assert traceback.startswith('Traceback') and 'CheckpointError: checkpoint: absent.pth is not a file' in traceback
    assert f'FAILED {name}' in text and result['parts']['convolutions']['status'] == 'done'


def test_a_device_that_is_not_there_fails_at_once(tmp_path: Path) -> None:
    code, result, text = run(tmp_path / 'gpu.json', '--device', 'cuda:99')
    assert code == 1 and 'ConfigError: device: cuda:99' in result['failed']['machine']
    assert {part['status'] for part in result['parts'].values()} == {'skipped'}, text


def test_what_does_not_fit_the_time_is_named(tmp_path: Path) -> None:
    # Just enough for the first part to begin.
    arguments = ['--device', 'cpu', '--reduced', '--minutes', '0.255', '--only', 'robustness', 'suite']
    code, result, _ = run(tmp_path / 'gpu.json', *arguments)
    assert code == 0 and {part['reason'] for part in result['parts'].values()} == {'no time was left'}


def test_a_part_that_runs_out_of_time_keeps_what_it_has_found(tmp_path: Path) -> None:
    record = tmp_path / 'record.json'
    serve = [sys.executable, str(SCRIPT), '--part', 'correctness', '--record', str(record)]
    subprocess.run([*serve, '--device', 'cpu', '--reduced', '--seconds', '0'], check=True)
    part = json.loads(record.read_text())
    assert part['status'] == 'skipped' and part['reason'] == 'time was up; what was found until then is kept'
    assert [check['status'] for check in part['result'].values()] == ['passed']


def test_a_missing_torchvision_is_named() -> None:
    code = f"""
import runpy, sys
sys.modules['torchvision'] = None
sys.argv = ['gpu.py']
runpy.run_path({str(SCRIPT)!r}, run_name='__main__')
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and 'needs torchvision, which this Python does not have' in done.stderr


def test_the_model_imports_where_torch_and_numpy_are_all_there_is() -> None:
    """torchvision with Pillow is needed too, and nothing of ROS, bags, pictures or YAML."""
    code = """
import importlib, pathlib, sys
for name in 'cv2 rosbags rclpy pyarrow yaml safetensors matplotlib openvino hypothesis pytest tqdm'.split():
    sys.modules[name] = None
benchmarks = pathlib.Path(sys.argv[1])
sys.path[:0] = [str(benchmarks.parent), str(benchmarks)]
for name in 'spec model.model model.engines model.packed_checkpoint bench.model'.split():
    importlib.import_module('fused_encoder_ros.' + name)
for path in (benchmarks / 'gpu_parts').glob('*.py'):
    importlib.import_module('gpu_parts.' + path.stem)
from fused_encoder_ros.model import ModelOptions, load_model
from fused_encoder_ros.spec import ObservationSpec
print(load_model(ModelOptions(device='cpu'), ObservationSpec()).engine.name)
"""
    done = subprocess.run([sys.executable, '-c', code, str(SCRIPT.parent)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip() in ('packed', 'eager'), done.stderr
