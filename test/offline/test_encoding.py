"""The command, as a person runs it: real processes on real bags."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import preloaded
import pyarrow.parquet as pq
import pytest
import ros_messages
import torch
from mcap_ros2.writer import Writer as ForeignWriter
from ros_messages import MS, T0
from rosbags.highlevel import AnyReader

from fused_encoder_ros.cli import main
from fused_encoder_ros.errors import OutputError
from fused_encoder_ros.model import ImageJointEncoder, ModelOptions, load_model
from fused_encoder_ros.offline.bag import typestore
from fused_encoder_ros.offline.encode import encode_bag
from fused_encoder_ros.offline.files import completed
from fused_encoder_ros.offline.rig_bag import START_NS, write_rig_bag
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.spec import DEFAULT_JOINT_NAMES
from fused_encoder_ros.synthetic import Rig

RIG = Rig(width=160, height=120)
DATA = Path(__file__).parent / 'data'


def fused_encoder(*arguments: object) -> subprocess.CompletedProcess[str]:
    return preloaded.run('fused_encoder_ros.cli', *arguments)


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bags') / 'rig'
    result = fused_encoder('rig', path, '--duration', 2, '--size', '160x120')
    assert result.returncode == 0, result.stderr
    return path


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('checkpoint') / 'run_obs_encoder.pth'
    torch.manual_seed(0)
    torch.save(ImageJointEncoder(joint_dim=16, image_feature_dim=128).state_dict(), path)
    return path


def test_encode(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = fused_encoder('encode', bag, '--out', tmp_path, '--checkpoint', checkpoint, '--json', '--bag-out')
    assert result.returncode == 0, result.stderr
    (summary,) = json.loads(result.stdout)
    table = pq.read_table(tmp_path / 'rig.parquet')
    assert summary['anchors'] == 60 == summary['sets'] + sum(summary['drops'].values())
    assert table.num_rows == summary['sets'] >= 57
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.previews', 'manifest.jsonl', 'rig.parquet', 'rig_features']

    columns = table.to_pydict()
    assert columns['stamp_ns'] == columns['global_stamp_ns'] == sorted(set(columns['stamp_ns']))
    assert np.array(columns['feature'], np.float32).shape == (table.num_rows, 256)
    for camera in ('left_wrist', 'right_wrist'):
        skew = np.subtract(columns[f'{camera}_stamp_ns'], columns['stamp_ns']) / 1e6
        np.testing.assert_allclose(columns[f'{camera}_skew_ms'], skew)
        assert np.abs(skew).max() <= 20
    expected = [RIG.joint_positions(stamp - START_NS) for stamp in columns['stamp_ns']]
    np.testing.assert_allclose(columns['joints'], expected, atol=2e-4)  # 100 Hz, interpolated linearly

    metadata = {key.decode(): json.loads(value) for key, value in table.schema.metadata.items()}
    model = load_model(ModelOptions(checkpoint=str(checkpoint)), Settings.from_values({}).spec)
    assert metadata['fused_encoder.model_hash'] == model.hash
    assert metadata['fused_encoder.spec'] == Settings.from_values({}).spec.to_dict()
    assert metadata['fused_encoder.random_weights'] is False


def test_bag_of_features_holds_the_topics_of_the_node(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = fused_encoder('encode', bag, '--out', tmp_path, '--checkpoint', checkpoint, '--bag-out')
    assert result.returncode == 0, result.stderr
    table = pq.read_table(tmp_path / 'rig.parquet')
    features = np.array(table['feature'].to_pylist(), np.float32)
    with AnyReader([tmp_path / 'rig_features'], default_typestore=typestore()) as reader:
        messages = {topic: [] for topic in reader.topics}
        for connection, _, raw in reader.messages():
            messages[connection.topic].append(reader.deserialize(raw, connection.msgtype))
    plain, stamped = (messages[f'/fused_encoder/{name}'] for name in ('fused_feature', 'fused_feature_stamped'))
    np.testing.assert_array_equal([message.data for message in plain], features)
    dimension = plain[0].layout.dim[0]
    assert (dimension.label, dimension.size, dimension.stride) == ('fused_feature', 256, 256)
    for message, row, stamp in zip(stamped, features, table['stamp_ns'].to_pylist(), strict=True):
        assert (message.encoding, message.height, message.width, message.step) == ('32FC1', 1, 256, 1024)
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp
        np.testing.assert_array_equal(np.frombuffer(message.data.tobytes(), '<f4'), row)


def test_the_same_again_is_the_same(bag: Path, tmp_path: Path) -> None:
    for name in ('one', 'two'):
        assert fused_encoder('encode', bag, '--out', tmp_path / name).returncode == 0
    one, two = (pq.read_table(tmp_path / name / 'rig.parquet') for name in ('one', 'two'))
    assert one.equals(two)


def test_batches_differ_only_in_the_last_bits(bag: Path, tmp_path: Path) -> None:
    settings = Settings.from_values({})
    model = load_model(settings.model, settings.spec)
    tables = []
    for size in (1, 16):
        encode_bag(bag, tmp_path / str(size), settings, model, batch_size=size)
        tables.append(pq.read_table(tmp_path / str(size) / 'rig.parquet'))
    assert tables[0].drop(['feature']).equals(tables[1].drop(['feature']))
    one, many = (np.array(table['feature'].to_pylist()) for table in tables)
    np.testing.assert_allclose(many, one, rtol=1e-4, atol=2e-6)


def test_random_weights_are_announced(bag: Path, tmp_path: Path) -> None:
    result = fused_encoder('encode', bag, '--out', tmp_path)
    assert result.returncode == 0 and 'RANDOM weights' in result.stderr
    assert json.loads(pq.read_schema(tmp_path / 'rig.parquet').metadata[b'fused_encoder.random_weights']) is True


def test_existing_output_is_kept_unless_forced(bag: Path, tmp_path: Path) -> None:
    (tmp_path / 'rig.parquet').write_text('precious')
    result = fused_encoder('encode', bag, '--out', tmp_path)
    assert result.returncode == 2 and 'rig.parquet exists already; use --force' in result.stderr
    assert (tmp_path / 'rig.parquet').read_text() == 'precious'
    assert fused_encoder('encode', bag, '--out', tmp_path, '--force').returncode == 0
    assert pq.read_table(tmp_path / 'rig.parquet').num_rows > 50


def test_force_replaces_results_and_nothing_else(bag: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    assert fused_encoder('encode', bag, '--out', out, '--bag-out').returncode == 0
    assert fused_encoder('encode', bag, '--out', out, '--bag-out', '--force').returncode == 0
    assert sorted(p.name for p in out.iterdir()) == ['.previews', 'manifest.jsonl', 'rig.parquet', 'rig_features']
    before = (out / 'rig.parquet').read_bytes()
    shutil.rmtree(out / 'rig_features')
    (out / 'rig_features').mkdir()
    (out / 'rig_features' / 'thesis.txt').write_text('ten years')
    result = fused_encoder('encode', bag, '--out', out, '--bag-out', '--force', '--set', 'seed=5')
    assert result.returncode == 2 and 'this program did not write it' in result.stderr
    assert (out / 'rig_features' / 'thesis.txt').read_text() == 'ten years'
    assert (out / 'rig.parquet').read_bytes() == before


@pytest.mark.parametrize('failing', range(5))
def test_a_failing_replacement_puts_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """The disk fails at the n-th move of three new files over two old ones."""
    outputs = {name: tmp_path / name for name in ('a', 'b', 'c')}
    for name in ('a', 'c'):
        outputs[name].write_text('old')
    rename, calls = os.rename, iter(range(1000))

    def failing_rename(source: Path, target: Path) -> None:
        if next(calls) == failing:
            raise OSError(5, 'Input/output error')
        rename(source, target)

    monkeypatch.setattr(os, 'rename', failing_rename)
    with pytest.raises(OutputError, match='Input/output error'), completed(outputs, force=True) as files:
        for path in files.values():
            path.write_text('new')
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {'a': 'old', 'c': 'old'}


def test_contents_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power loss the manifest would say that an empty file is done."""
    fsync, rename, synced = os.fsync, os.rename, set()

    def recorded_fsync(file: Any) -> None:
        fsync(file)
        synced.add(Path(f'/proc/self/fd/{file.fileno()}').resolve())

    def checked_rename(source: Path, target: Path) -> None:
        assert {path for path in (source, *source.rglob('*')) if path.is_file()} <= synced
        rename(source, target)

    monkeypatch.setattr(os, 'fsync', recorded_fsync)
    monkeypatch.setattr(os, 'rename', checked_rename)
    with completed({'file': tmp_path / 'a', 'folder': tmp_path / 'b'}, force=False) as files:
        files['file'].write_text('new')
        (files['folder'] / 'below').mkdir(parents=True)
        (files['folder'] / 'below' / 'c').write_text('new')
    assert len(synced) == 2 and (tmp_path / 'b' / 'below' / 'c').read_text() == 'new'


def test_what_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match='exists already'), completed({'a': tmp_path / 'a'}, force=False) as files:
        files['a'].write_text('new')
        (tmp_path / 'a').write_text("somebody else's")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {'a': "somebody else's"}


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['--size', '0x0'], 'width: 0'),
        (['--size', 'big'], '--size'),
        (['--camera-rate', '0'], 'camera_rate_hz: 0'),
        (['--joint-rate', 'nan'], 'joint_rate_hz: nan'),
        (['--duration', '-1'], '--duration: -1'),
        (['--seed', '-1'], 'seed: -1'),
    ],
)
def test_rig_checks_its_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert main(['rig', str(tmp_path / 'bag'), *arguments]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / 'bag').exists()


def test_a_bad_bag_loses_nothing_of_the_good_one(bag: Path, tmp_path: Path) -> None:
    cut = tmp_path / 'cut'
    shutil.copytree(bag, cut)
    (storage,) = cut.glob('*.mcap')
    storage.write_bytes(storage.read_bytes()[:-1000])
    result = fused_encoder('encode', cut, bag, '--out', tmp_path / 'out')
    assert result.returncode == 2 and f'bag {cut}' in result.stderr and 'Traceback' not in result.stderr
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['.previews', 'manifest.jsonl', 'rig.parquet']


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['--topic', 'left_wrist=/nowhere'], 'no topic /nowhere for left_wrist; the bag has /global/image'),
        (['--topic', 'wrist=/x'], 'topics.wrist: there is no camera wrist (the cameras are left_wrist, right_wrist, global'),
        (['--set', 'tolerance_ms=-5'], 'tolerance_ms: -5 is too small'),
        (['--set', 'tolerance=5'], 'tolerance: there is no such parameter'),
        (['--set', 'tolerance_ms'], 'write it as NAME=VALUE'),
        (['--checkpoint', 'absent.pth'], 'absent.pth is not a file'),
        (['--config', 'absent.yaml'], 'absent.yaml cannot be read'),
        (['--device', 'abacus'], "device: 'abacus' is unknown"),
        (['--batch-size', '0'], '--batch-size'),
        (['--colour'], 'unrecognized arguments: --colour'),
    ],
)
def test_bad_usage(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    try:
        code = main(['encode', str(bag), '--out', str(tmp_path / 'out'), *arguments])
    except SystemExit as error:  # argparse's own
        code = error.code  # type: ignore[assignment]
    assert code == 2 and says in capsys.readouterr().err
    assert not list(tmp_path.glob('out/*.parquet'))


def test_two_bags_of_one_name_are_refused(bag: Path, tmp_path: Path) -> None:
    shutil.copytree(bag, tmp_path / 'rig')
    result = fused_encoder('encode', bag, tmp_path / 'rig', '--out', tmp_path / 'out')
    assert result.returncode == 2 and 'would both write rig' in result.stderr


def test_unwritable_output(bag: Path, tmp_path: Path) -> None:
    """A file where the folder should be refuses everyone, root included."""
    (tmp_path / 'out').write_text('a file')
    result = fused_encoder('encode', bag, '--out', tmp_path / 'out')
    assert result.returncode == 2 and 'output folder' in result.stderr and 'cannot be written' in result.stderr
    if os.geteuid() != 0:
        locked = tmp_path / 'locked'
        locked.mkdir()
        locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
        assert fused_encoder('encode', bag, '--out', locked).returncode == 2


def test_config_file_of_the_node(bag: Path, tmp_path: Path) -> None:
    config = tmp_path / 'params.yaml'
    config.write_text('fused_encoder:\n  ros__parameters:\n    tolerance_ms: 1\n    topics: {left_wrist: /left_wrist/image}\n')
    result = fused_encoder('encode', bag, '--out', tmp_path / 'out', '--config', config, '--json')
    (summary,) = json.loads(result.stdout)
    assert summary['drops'] and all(reason.startswith('no_match') for reason in summary['drops'] if reason != 'end_of_stream')
    assert 'tolerance_ms is 1' in next(iter(summary['details'].values()))


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupting_leaves_nothing_incomplete(tmp_path: Path, number: int) -> None:
    write_rig_bag(tmp_path / 'long', RIG, 40.0)
    command = [sys.executable, '-m', 'fused_encoder_ros.cli', 'encode', tmp_path / 'long', '--out', tmp_path / 'out']
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not list(tmp_path.glob('out/.partial-*/*')):
        assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    # CPython itself ends by the signal when an interrupt, though handled, had landed in an `exec` of some library.
    assert process.returncode in (1, -signal.SIGINT)
    assert 'interrupted; nothing incomplete was left behind' in errors and 'Traceback' not in errors
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['manifest.jsonl']


def test_ros1_bag_written_by_ros(tmp_path: Path) -> None:
    """Written by ROS 1's own rosbag, bz2: 10 Hz cameras up to 38 ms apart, joints at 50 Hz, names shuffled."""
    result = fused_encoder('encode', DATA / 'wrist_cameras_ros1.bag', '--out', tmp_path, '--set', 'tolerance_ms=40', '--json')
    assert result.returncode == 0, result.stderr
    (summary,) = json.loads(result.stdout)
    assert summary['anchors'] == 15 and summary['sets'] == 14 and summary['drops'] == {'end_of_stream': 1}
    table = pq.read_table(tmp_path / 'wrist_cameras_ros1.parquet')
    np.testing.assert_allclose(table['left_wrist_skew_ms'].to_pylist(), -38, atol=0.1)


def test_mcap_written_by_another_tool(tmp_path: Path) -> None:
    """By the mcap project's ROS 2 writer, as a bare .mcap file with a camera in JPEG."""
    with (tmp_path / 'foreign.mcap').open('wb') as stream:
        writer = ForeignWriter(stream)
        schemas = {
            kind: writer.register_msgdef(kind, typestore().generate_msgdef(kind, ros_version=2)[0])
            for kind in ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/JointState')
        }

        def write(topic: str, kind: str, ms: int, message: object) -> None:
            writer.write_message(topic, schemas[kind], plain(message), log_time=T0 + ms * MS, publish_time=T0 + ms * MS)

        pixels = RIG.image('global', 0, 0)
        for ms in range(0, 500, 50):
            for topic, part in (('/left_arm', slice(8)), ('/right_arm', slice(8, 16))):
                state = ros_messages.joint_state(T0 + ms * MS, DEFAULT_JOINT_NAMES[part], np.arange(16.0)[part])
                write(topic, 'sensor_msgs/msg/JointState', ms, state)
            write('/left', 'sensor_msgs/msg/Image', ms + 1, ros_messages.image(T0 + (ms + 1) * MS, pixels, padding=3))
            jpeg = ros_messages.compressed(T0 + (ms + 2) * MS, pixels)
            write('/right/compressed', 'sensor_msgs/msg/CompressedImage', ms + 2, jpeg)
            write('/top', 'sensor_msgs/msg/Image', ms + 3, ros_messages.image(T0 + (ms + 3) * MS, pixels[..., ::-1], 'bgr8'))
        writer.finish()
    topics = {'left_wrist': '/left', 'right_wrist': '/right/compressed', 'global': '/top'}
    options = [f'--topic={source}={topic}' for source, topic in topics.items()]
    options += ['--topic=joint_states=/left_arm', '--topic=joint_states=/right_arm']
    result = fused_encoder('encode', tmp_path / 'foreign.mcap', '--out', tmp_path / 'out', '--json', *options)
    assert result.returncode == 0, result.stderr
    (summary,) = json.loads(result.stdout)
    assert summary['sets'] == 9 and summary['drops'] == {'end_of_stream': 1}


def plain(message: object) -> object:
    """A rosbags message as the nested dictionary that the foreign writer takes."""
    if hasattr(message, '__dataclass_fields__'):
        return {name: plain(getattr(message, name)) for name in message.__dataclass_fields__ if not name.startswith('__')}
    return message.tolist() if isinstance(message, np.ndarray) else message
