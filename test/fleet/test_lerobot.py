"""Data sets for LeRobot, read back by lerobot itself."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty_bags import Times, as_it_is, write_bag
from ros_messages import MS

from fused_encoder_ros import Observation, Settings, read_observations
from fused_encoder_ros.cli import main
from fused_encoder_ros.fleet.manifest import read_manifest
from fused_encoder_ros.model._torchvision import import_torchvision
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.spec import DEFAULT_JOINT_NAMES
from fused_encoder_ros.synthetic import Event, Rig

SMALL = {'width': 64, 'height': 48}


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of the datasets package, which reading fills."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = str(tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='module')
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a, b/c and late: 1.2 s each; the cameras of the last miss a tenth of a second in the middle."""

    def without_images(event: Event) -> Times:
        is_lost = event.source != JOINTS and 500 * MS <= event.stamp_ns < 600 * MS
        return None if is_lost else as_it_is(event)

    folder = tmp_path_factory.mktemp('bags')
    for seed, name in enumerate(('a', 'b/c')):
        (folder / name).parent.mkdir(exist_ok=True)
        write_rig_bag(folder / name, Rig(**SMALL, seed=seed), 1.2)
    write_bag(folder / 'late', without_images, duration_s=1.2)
    return folder


@pytest.fixture(scope='module')
def exported(bags: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Where these are exported to, and what was said of each by its name."""
    out = tmp_path_factory.mktemp('exported')
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()) as errors:
        assert main([*command(bags, '--out', out, '--task', 'stack the cups'), '--json']) == 0
    assert not errors.getvalue()
    return out, {Path(one['bag']).name: one for one in json.loads(said.getvalue())}


def command(*arguments: object) -> list[str]:
    return ['export', *map(str, arguments), '--to', 'lerobot', '--workers', '1']


def said_of(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[dict[str, dict[str, Any]], str]:
    """What is said of each bag by its name, and what is written to stderr."""
    returned = main([*command(*arguments), '--json'])
    said = capsys.readouterr()
    assert returned == code, said.err
    return {Path(one['bag']).name: one for one in json.loads(said.out or '[]')}, said.err


def read(root: Path) -> Any:
    import_torchvision()
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset('lab/robot', root=root, video_backend='pyav')


def sets(bag: Path) -> list[Observation]:
    return [o for o in read_observations(bag, Settings.from_values({})) if isinstance(o, Observation)]


def pixels(image: Any) -> np.ndarray:
    """lerobot gives float32 [3,H,W] from 0 to 1."""
    return np.round(image.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)


def test_every_frame_is_the_observation_of_the_node(bags: Path, exported: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    out, said = exported
    dataset = read(out / 'dataset')
    about = json.loads((out / 'dataset/meta/fused_encoder.json').read_text())
    steps = {name: sets(bags / name) for name in ('a', 'b/c', 'late')}
    stamps = [one.stamp_ns for one in steps['late']]
    (gap,) = np.flatnonzero(np.diff(stamps) > 50e6) + 1
    runs = [('a', steps['a']), ('b/c', steps['b/c']), ('late', steps['late'][:gap]), ('late', steps['late'][gap:])]
    assert dataset.fps == 30 and dataset.num_episodes == len(runs) and len(dataset) > 80
    assert [(one['bag'], one['stamp_ns'], one['steps']) for one in about['episodes']] == [
        (bag, run[0].stamp_ns, len(run) - 1) for bag, run in runs
    ]
    at = 0
    for number, (_, run) in enumerate(runs):
        for index, (one, later) in enumerate(pairwise(run)):
            frame = dataset[at]
            assert frame['episode_index'] == number and frame['frame_index'] == index
            assert frame['timestamp'] == np.float32(index / 30) and frame['task'] == 'stack the cups'
            assert frame['stamps_ns'].tolist() == list(one.stamps_ns.values())
            assert frame['skews_ns'].tolist() == list(one.skew_ns.values())
            np.testing.assert_array_equal(frame['observation.state'], one.joint_positions.astype(np.float32))
            np.testing.assert_array_equal(frame['action'], later.joint_positions.astype(np.float32))
            for camera, image in one.camera_images.items():
                np.testing.assert_array_equal(pixels(frame[f'observation.images.{camera}']), image)
            at += 1
    assert at == len(dataset)
    assert dataset.meta.features['action']['names'] == list(DEFAULT_JOINT_NAMES)
    assert dataset.meta.features['stamps_ns']['names'] == ['left_wrist', 'right_wrist', 'global', 'joint_states']
    made_with = about['made_with']
    assert made_with['spec'] == Settings.from_values({}).spec.to_dict() and made_with['sync']['match'] == 'expected'
    assert made_with['topics']['global'] == ['global/image'] and made_with['lerobot'] == '0.4.4'
    assert [one['summary']['anchors'] for one in about['bags']] == [said[name]['anchors'] for name in ('a', 'c', 'late')]
    for one in said.values():
        assert one['sets'] == one['steps'] + sum(one['unused'].values())
    assert said['late']['unused'] == {'no_action': 2}  # before the gap and at the end


def test_statistics_are_those_of_the_data(exported: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    """Those that lerobot itself writes of uint8 images are wrong: squares overflow."""
    dataset = read(exported[0] / 'dataset')
    frames = [dataset[at] for at in range(len(dataset))]
    for name in ('observation.images.global', 'observation.state', 'action', 'skews_ns'):
        values = np.stack([frame[name].numpy() for frame in frames]).astype(np.float64)
        axes = (0, 2, 3) if 'image' in name else 0
        stats = {key: value.squeeze() for key, value in dataset.meta.stats[name].items()}
        np.testing.assert_allclose(stats['mean'], values.mean(axes), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(stats['std'], values.std(axes), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(stats['max'], values.max(axes), rtol=1e-6)
    assert 'stamps_ns' not in dataset.meta.stats  # of which a mean says nothing, and squares overflow


def test_a_rate_and_full_resolution(bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, _ = said_of(capsys, bags / 'a', '--out', tmp_path, '--rate', 10, '--resolution', 'full')
    dataset = read(tmp_path / 'dataset')
    assert dataset.fps == 10 and dataset.num_episodes == 1
    assert said['a']['steps'] == len(dataset) > 8
    assert dataset[0]['observation.images.global'].shape == (3, 48, 64)


def test_a_second_run_adds_what_is_new(bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'out'
    said_of(capsys, bags / 'a', '--out', out)
    made_ns = (out / 'dataset/meta/info.json').stat().st_mtime_ns
    said_of(capsys, bags / 'a', '--out', out)
    assert (out / 'dataset/meta/info.json').stat().st_mtime_ns == made_ns  # nothing to do
    said_of(capsys, bags / 'late', '--out', out)
    assert [one['bag'] for one in json.loads((out / 'dataset/meta/fused_encoder.json').read_text())['episodes']] == [
        'a',
        'late',
        'late',
    ]
    shutil.rmtree(out / 'bags/a')
    _, errors = said_of(capsys, bags / 'late', '--out', out, code=2)
    assert f'{out}/bags/a is missing' in errors and read(out / 'dataset').num_episodes == 3


@pytest.mark.parametrize('at', ['out', 'out/dataset'])
def test_another_data_set_is_not_touched(bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], at: str) -> None:
    foreign = tmp_path / at / 'meta/info.json'
    foreign.parent.mkdir(parents=True)
    foreign.write_text('{}')
    for force in ([], ['--force']):
        _, errors = said_of(capsys, bags / 'a', '--out', tmp_path / 'out', *force, code=2)
        assert f'{tmp_path / at} holds another data set, which would be lost; choose another folder' in errors
    assert [path for path in (tmp_path / 'out').rglob('*') if path.is_file()] == [foreign]


def test_a_bag_that_does_not_fit_in_is_named_and_left_out(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rig_bag(tmp_path / 'large', Rig(width=96, height=64), 0.5)
    write_rig_bag(tmp_path / 'slow', Rig(**SMALL, camera_rate_hz=15.0), 1.0)
    given = [bags, tmp_path / 'large', tmp_path / 'slow', '--set', 'tolerance_ms=40']
    said, errors = said_of(capsys, *given, '--out', tmp_path / 'out', '--resolution', 'full', code=2)
    assert {name for name, one in said.items() if one['status'] == 'failed'} == {'large', 'slow'}
    assert f'bag {tmp_path}/large: its observation.images.left_wrist is [64, 96, 3]' in errors
    assert f'bag {tmp_path}/slow: it has 15 steps per second, but most bags have 30; choose one rate with --rate' in errors
    assert read(tmp_path / 'out/dataset').num_episodes == 4
    assert sorted(record.status for record in read_manifest(str(tmp_path / 'out'))[1]) == ['done'] * 3 + ['failed'] * 2


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['--rate', '7.5'], '--rate: 7.5 is not a whole number, which LeRobot needs; round it'),
        (['--out', 's3://lab/dataset'], 's3://lab/dataset is an object store, where lerobot cannot write'),
        (['--action-topic', '/nowhere'], 'the action topic /nowhere does not exist'),
        (
            ['--set', 'joint_names=[left_gripper]'],
            'lerobot cannot write observation.state, since it is a vector of only one number',
        ),
    ],
)
def test_bad_usage(bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    _, errors = said_of(capsys, bags / 'a', '--out', tmp_path / 'out', *arguments, code=2)
    assert says in errors and not list(tmp_path.rglob('info.json'))


def test_a_rate_that_is_far_from_whole_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rig_bag(tmp_path / 'odd', Rig(**SMALL, camera_rate_hz=12.5), 1.0)
    arguments = ('--out', tmp_path / 'out', '--set', 'tolerance_ms=40')
    _, errors = said_of(capsys, tmp_path / 'odd', *arguments, code=2)
    assert 'it has 12.4' in errors and 'which is not a whole number; choose a rate with --rate' in errors


def test_without_lerobot_the_extra_is_named(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'lerobot' else find(name))
    _, errors = said_of(capsys, bags / 'a', '--out', tmp_path, code=2)
    assert "--to lerobot needs the package lerobot: pip install '.[lerobot]'" in errors


def test_another_lerobot_is_named(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, 'version', lambda name: '0.5.1')
    _, errors = said_of(capsys, bags / 'a', '--out', tmp_path, code=2)
    assert "works with lerobot 0.4, but 0.5.1 is installed: pip install '.[lerobot]'" in errors


def test_an_interrupted_merge_leaves_the_earlier_data_set(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said_of(capsys, bags / 'a', '--out', tmp_path)
    import lerobot.datasets.aggregate

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(lerobot.datasets.aggregate, 'finalize_aggregation', interrupt)
        assert main(command(bags / 'late', '--out', tmp_path)) == 1
    assert read(tmp_path / 'dataset').num_episodes == 1 and not list(tmp_path.rglob('.partial-*'))
    capsys.readouterr()
    said_of(capsys, bags / 'late', '--out', tmp_path)  # the bag is done, the data set is not
    assert read(tmp_path / 'dataset').num_episodes == 3


def run(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    line = [sys.executable, '-m', 'fused_encoder_ros.cli', *command(*arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_killed_run_leaves_nothing_half_and_is_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ('a', 'b'):
        write_rig_bag(tmp_path / 'bags' / name, Rig(width=320, height=240), 2.0)
    out = tmp_path / 'out'
    arguments = (tmp_path / 'bags', '--out', out, '--resolution', 'full')
    process = run(*arguments, start_new_session=True)
    while not (list(out.glob('bags/?')) and list(out.glob('bags/.partial-*/*/images'))):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    (worker,) = {int(path.name.split('-')[1]) for path in out.glob('bags/.partial-*')}
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    while Path(f'/proc/{worker}').exists():
        time.sleep(0.01)
    assert not (out / 'dataset').exists()
    said, _ = said_of(capsys, *arguments)
    assert {one['status'] for one in said.values()} == {'done'} and not list(out.rglob('.partial-*'))
    dataset = read(out / 'dataset')
    assert len(dataset) == sum(one['steps'] for one in said.values()) > 100
    assert [dataset[at]['stamps_ns'][2].item() for at in (0, len(dataset) - 1)] == [
        sets(tmp_path / 'bags' / name)[at].stamp_ns for name, at in (('a', 0), ('b', -2))
    ]


def test_a_full_disk_is_named_and_leaves_nothing(bags: Path, tmp_path: Path) -> None:
    """Files may not grow past 8 kB, which the manifest and single images do not reach."""
    process = run(bags / 'a', '--out', tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000)))
    _, errors = process.communicate()
    assert process.returncode == 2 and 'File too large' in errors and 'Traceback' not in errors
    assert [path.name for path in tmp_path.rglob('*') if path.is_file()] == ['manifest.jsonl']
