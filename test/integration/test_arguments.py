"""How the ROS programs are started: help, what is refused, and parameter files that are for somebody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import rclpy
import yaml
from live import Desk

from fused_encoder_ros.settings import serves


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-m', f'fused_encoder_ros.ros.{module}', *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ('module', 'says'),
    [
        ('main', ('fused_encoder.launch.py', '--ros-args --params-file robot.yaml', 'checkpoint ', 'topics.global ')),
        ('rig', ('demo.launch.py', '--ros-args -p duration_s:=10', 'camera_rate_hz ', 'wait_for_listeners_s ')),
    ],
)
def test_help_says_what_it_is_and_ends(module: str, says: tuple[str, ...]) -> None:
    done = run(module, '--help')
    assert done.returncode == 0 and not done.stderr
    assert all(text in done.stdout for text in says), done.stdout


@pytest.mark.parametrize('module', ['main', 'rig'])
@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['seed:=1'], 'unknown argument: seed:=1; set a parameter with --ros-args -p seed:=1'),
        (['-p', 'seed:=1'], 'unknown argument: -p; write --ros-args before it: --ros-args -p seed:=1'),
        (['--ros-args', '-p', 'seed:=1', '--', '--sed', '1'], 'unknown argument: --sed; see --help'),
    ],
)
def test_an_unknown_argument_is_refused_with_the_fix(module: str, arguments: list[str], says: str) -> None:
    done = run(module, *arguments)
    assert done.returncode == 2 and done.stderr.strip().endswith(says)


def test_a_python_without_torch_is_told_where_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'torch.py').write_text('raise ModuleNotFoundError("No module named \'torch\'")')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    done = run('main')
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    assert "No module named 'torch'; run the node in the environment that has torch" in done.stderr


def test_what_the_rig_does_not_know_is_refused() -> None:
    for arguments, says in (
        (['-p', 'duration:=3'], 'rig cannot start: duration: there is no such parameter; use one of cameras'),
        (['-p', 'seed:=x'], "rig cannot start: seed: 'x' is not a whole number"),
        (['--duration', '3'], "rig cannot start: unknown arguments after --ros-args: ['--duration', '3']"),
    ):
        done = run('rig', '--ros-args', *arguments)
        assert done.returncode == 1 and done.stderr.startswith(says), done.stderr


@pytest.mark.parametrize(
    ('module', 'sections', 'says'),
    [
        (
            'main',
            {'fused_encodr': 'seed'},
            'its sections are fused_encodr, and this node is /fused_encoder; rename the section to',
        ),
        (
            'main',
            {'/left/fused_encoder': 'seed', 'rig': 'seed'},
            'its sections are /left/fused_encoder, rig, and this node is',
        ),
        ('rig', {'fused_encoder': 'seed'}, 'its sections are fused_encoder, and this node is /rig'),
    ],
)
def test_a_parameter_file_for_another_node_is_told_at_start(
    desk: Desk, tmp_path: Path, module: str, sections: dict[str, str], says: str
) -> None:
    path, used = tmp_path / 'robot.yaml', tmp_path / 'used.yaml'
    path.write_text(yaml.safe_dump({section: {'ros__parameters': {name: 1}} for section, name in sections.items()}))
    used.write_text(yaml.safe_dump({'/**': {'ros__parameters': {'use_sim_time': False}}}))
    waits = ['-p', 'autostart:=false'] if module == 'main' else []
    files = ['--params-file', str(used), '--params-file', str(path)]
    live = desk.start_with('--ros-args', *files, *waits, module=module)
    desk.wait_for_log(live, f'parameter file {path} is not used: {says}')
    assert live.log.count('is not used') == 1


def test_sections_serve_the_nodes_that_rclpy_reads_them_for(tmp_path: Path) -> None:
    sections = [
        '/**',
        '**',
        '/*',
        'node',
        '/node',
        '/robot/node',
        'robot/node',
        '/*/node',
        '/**/node',
        '/robot/*',
        '/robot/**',
    ]
    sections += ['/robot/arm/node', '/*/*/node', '/robot/**/node', 'other', '/nod', '/robot']
    path = tmp_path / 'robot.yaml'
    path.write_text(yaml.safe_dump({name: {'ros__parameters': {f'p{i}': 1}} for i, name in enumerate(sections)}))
    for namespace in ('/', '/robot', '/robot/arm'):
        context = rclpy.Context()
        rclpy.init(args=['--ros-args', '--params-file', str(path), '-r', f'__ns:={namespace}'], context=context)
        node = rclpy.create_node('node', context=context)
        read = {sections[int(name[1:])] for name in node._parameter_overrides}
        full_name = node.get_fully_qualified_name()
        node.destroy_node()
        rclpy.shutdown(context=context)
        assert {section for section in sections if serves(section, full_name)} == read
