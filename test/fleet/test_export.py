"""Data sets for training: what a policy learns from is what the node would make."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import ros_messages
import yaml
from faulty_bags import RIG, TOPICS, Times, as_it_is, write_bag
from hypothesis import given
from hypothesis import strategies as st
from processes import command, results
from ros_messages import MS
from rosbags.highlevel import AnyReader

from fused_encoder_ros import Observation, Settings, read_observations
from fused_encoder_ros.cli import main
from fused_encoder_ros.offline.bag import BagWriter, typestore
from fused_encoder_ros.offline.episodes import Unused, at_rate
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.pipeline.data import stamp_to_ns
from fused_encoder_ros.spec import DEFAULT_JOINT_NAMES
from fused_encoder_ros.synthetic import Event, Rig

LARGE = Rig(width=96, height=64)


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bags') / 'rig'
    write_rig_bag(path, RIG, 2.0)
    return path


@pytest.fixture
def with_commands(bag: Path, tmp_path: Path) -> Callable[..., Path]:
    """The bag with commands on /command, made by `message(types, header, stamp_ns)` each 20 ms for so long."""

    def write(kind: str, message: Callable[[Any, Any, int], Any], seconds: float = 2.0) -> Path:
        path = tmp_path / 'commanded'
        with AnyReader([bag], default_typestore=typestore()) as reader:
            kinds = {connection.topic: connection.msgtype for connection in reader.connections}
            with BagWriter(path, 'mcap', {**kinds, '/command': kind}) as writer:
                for connection, recorded_ns, raw in reader.messages():
                    writer.write(connection.topic, reader.deserialize(raw, connection.msgtype), recorded_ns)
                for stamp_ns in range(reader.start_time, reader.start_time + round(seconds * 1e9), 20 * MS):
                    sec, nanosec = divmod(stamp_ns, 10**9)
                    time = writer.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
                    header = writer.types['std_msgs/msg/Header'](stamp=time, frame_id='')
                    writer.write('/command', message(writer.types, header, stamp_ns), stamp_ns + 3 * MS)
        return path

    return write


def export(bag: Path, out: Path, *arguments: object, to: str = 'hdf5', code: int = 0) -> h5py.File:
    assert main(['export', str(bag), '--to', to, '--out', str(out), *map(str, arguments)]) == code
    return h5py.File(out / f'{bag.name}.hdf5') if code == 0 else None


def observations(bag: Path) -> list[Observation]:
    return [o for o in read_observations(bag, Settings.from_values({})) if isinstance(o, Observation)]


def test_an_episode_holds_the_observations_of_the_node(bag: Path, tmp_path: Path) -> None:
    sets = observations(bag)
    with export(bag, tmp_path, '--task', 'stack the cups', '--action-later', 2) as episode:
        steps = sets[:-2]
        assert episode['stamp_ns'][:].tolist() == [one.stamp_ns for one in steps] and len(steps) > 50
        for number, name in enumerate(('left_image', 'right_image', 'global_image')):
            np.testing.assert_array_equal(
                episode[f'observations/{name}'], [one.images[..., 3 * number : 3 * number + 3] for one in steps]
            )
        np.testing.assert_array_equal(
            episode['observations/joint'], np.array([one.joint_positions for one in steps], np.float32)
        )
        np.testing.assert_array_equal(episode['actions'], np.array([one.joint_positions for one in sets[2:]], np.float32))
        assert not episode['rewards'][:].any() and np.flatnonzero(episode['terminals'][:]).tolist() == [len(steps) - 1]
        for source in ('left_wrist', 'right_wrist', 'global', 'joint_states'):
            np.testing.assert_array_equal(episode[f'skew_ms/{source}'], [one.skew_ns[source] / 1e6 for one in steps])
        about = {key.removeprefix('fused_encoder.'): json.loads(value) for key, value in episode.attrs.items()}
        assert about['spec'] == Settings.from_values({}).spec.to_dict() and about['sync']['match'] == 'expected'
        assert about['episode']['task'] == 'stack the cups' and about['action_names'] == list(DEFAULT_JOINT_NAMES)


def test_the_layout_of_aloha(bag: Path, tmp_path: Path) -> None:
    with export(bag, tmp_path / 'a') as plain, export(bag, tmp_path / 'b', to='hdf5-aloha') as aloha:
        for camera, image in (('left_wrist', 'left'), ('right_wrist', 'right'), ('global', 'global')):
            np.testing.assert_array_equal(aloha[f'observations/images/{camera}'], plain[f'observations/{image}_image'])
        np.testing.assert_array_equal(aloha['observations/qpos'], plain['observations/joint'])
        np.testing.assert_array_equal(aloha['action'], plain['actions'])
        assert 'rewards' not in aloha


def trajectory(types: Any, header: Any, stamp_ns: int) -> Any:
    """Joints in another order than the spec's; the value says when it was commanded."""
    names = list(DEFAULT_JOINT_NAMES[::-1])
    positions = np.arange(16.0)[::-1] + stamp_ns % 10**10 / 1e6
    empty = np.array([])
    point = types['trajectory_msgs/msg/JointTrajectoryPoint'](
        positions=positions,
        velocities=empty,
        accelerations=empty,
        effort=empty,
        time_from_start=types['builtin_interfaces/msg/Duration'](sec=0, nanosec=0),
    )
    return types['trajectory_msgs/msg/JointTrajectory'](header=header, joint_names=names, points=[point])


def test_the_command_in_force_is_the_action(with_commands: Callable[..., Path], tmp_path: Path) -> None:
    path = with_commands('trajectory_msgs/msg/JointTrajectory', trajectory)
    names = DEFAULT_JOINT_NAMES[4:12]
    with export(path, tmp_path / 'out', '--action-topic', '/command', '--action-names', *names) as episode:
        stamps_ns, actions = episode['stamp_ns'][:], episode['actions'][:]
        commanded_ms = actions - np.arange(4.0, 12.0)
        age_ms = stamps_ns[:, np.newaxis] % 10**10 / 1e6 - commanded_ms
        assert len(stamps_ns) > 50 and (age_ms > -0.01).all() and (age_ms < 20.01).all()


def test_commands_without_a_stamp_count_when_they_were_recorded(with_commands: Callable[..., Path], tmp_path: Path) -> None:
    def array(types: Any, header: Any, stamp_ns: int) -> Any:
        layout = types['std_msgs/msg/MultiArrayLayout'](dim=[], data_offset=0)
        return types['std_msgs/msg/Float64MultiArray'](layout=layout, data=np.array([stamp_ns % 10**10 / 1e6]))

    path = with_commands('std_msgs/msg/Float64MultiArray', array)
    with export(path, tmp_path / 'out', '--action-topic', '/command') as episode:
        age_ms = episode['stamp_ns'][:] % 10**10 / 1e6 - episode['actions'][:, 0]
        assert (age_ms > 2.99).all() and (age_ms < 23.01).all()


def test_sets_without_a_command_are_no_steps_and_counted(
    with_commands: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = with_commands('trajectory_msgs/msg/JointTrajectory', trajectory, seconds=1.0)
    with export(path, tmp_path / 'out', '--action-topic', '/command', '--action-hold', 0.1, '--json') as episode:
        (said,) = json.loads(capsys.readouterr().out)
        assert 30 < said['steps'] == len(episode['stamp_ns']) < 40
        assert said['unused'] == {'no_action': said['sets'] - said['steps']} and said['anchors'] == 60


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (
            ['--action-topic', '/nowhere'],
            'the action topic /nowhere does not exist; choose a topic of type trajectory_msgs/msg/JointTrajectory',
        ),
        (['--action-topic', '/global/image'], 'the action topic /global/image is sensor_msgs/msg/Image'),
        (
            ['--action-topic', '/joint_states', '--action-names', 'wheel'],
            'the commands on /joint_states lack wheel; they have',
        ),
        (['--rate', '0'], '--rate: 0 is too small'),
        (['--action-later', '-1'], '--action-later: -1 is too small'),
        (['--rate', 'inf'], '--rate: inf is too large; use at most 10000'),
        (['--action-topic', '/x', '--action-hold', 'inf'], '--action-hold: inf is too large'),
        (['--action-topic', '/x', '--action-later', '1'], '--action-later has no effect with --action-topic'),
        (['--action-names', 'wheel'], '--action-names has no effect without --action-topic'),
        (['--action-hold', '0.5'], '--action-hold has no effect without --action-topic'),
    ],
)
def test_bad_usage(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    export(bag, tmp_path, *arguments, code=2)
    assert says in capsys.readouterr().err and not list(tmp_path.glob('*.hdf5'))


def test_other_options_into_the_same_folder_are_refused(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(bag, tmp_path).close()
    export(bag, tmp_path, '--rate', 10, code=2)
    assert 'episode.rate_hz null, now 10.0' in capsys.readouterr().err
    assert main(['encode', str(bag), '--out', str(tmp_path)]) == 2
    assert 'kind "export", now "encode"' in capsys.readouterr().err


def test_a_rate_takes_every_third(bag: Path, tmp_path: Path) -> None:
    with export(bag, tmp_path, '--rate', 10) as episode:
        steps_ms = np.diff(episode['stamp_ns'][:]) / MS
        assert len(steps_ms) > 15 and np.abs(steps_ms - 100).max() < 5


def a_set(stamp_ns: int) -> Observation:
    return Observation(stamp_ns, np.zeros((1, 1, 3), np.uint8), np.zeros(1, np.float32), np.zeros(1), {})


@given(
    steps_ms=st.lists(st.floats(1.0, 400.0), min_size=1, max_size=60),
    rate_hz=st.sampled_from([5.0, 10.0, 20.0, 30.0]),
)
def test_sets_next_to_the_ticks_are_taken(steps_ms: list[float], rate_hz: float) -> None:
    """Against the definition: the tick of a set is the nearest one, and of the sets of a tick the nearest to it is taken."""
    stamps = (10**18 + np.cumsum(np.array(steps_ms) * MS).astype(np.int64)).tolist()
    parts = list(at_rate(map(a_set, stamps), rate_hz))
    assert sorted(part.stamp_ns for part in parts) == stamps
    taken = [part.stamp_ns for part in parts if isinstance(part, Observation)]
    assert all(part.reason == 'rate' for part in parts if isinstance(part, Unused)) and taken == sorted(taken)
    ticks = [round((stamp - stamps[0]) / 1e9 * rate_hz) for stamp in taken]
    assert len(set(ticks)) == len(ticks)  # no two for one tick
    nearest: dict[int, list[float]] = {}
    for stamp in stamps:
        at = (stamp - stamps[0]) / 1e9 * rate_hz
        nearest.setdefault(round(at), []).append(abs(at - round(at)))
    assert set(ticks) == set(nearest)
    for tick, stamp in zip(ticks, taken):
        assert abs((stamp - stamps[0]) / 1e9 * rate_hz - tick) <= min(nearest[tick]) + 1e-6


def mixed(event: Event, stamp_ns: int) -> Any:
    """Cameras of different sizes, and colours in different orders."""
    if event.source == 'global':
        return ros_messages.image(stamp_ns, LARGE.image('global', event.stamp_ns, event.number), encoding='bgr8')
    return ros_messages.image(stamp_ns, RIG.image(event.source, event.stamp_ns, event.number))


@pytest.fixture(scope='module')
def mixed_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp('bags') / 'mixed', duration_s=1.0, image=mixed)


def full_images(bag: Path) -> dict[str, dict[int, np.ndarray]]:
    """The recorded pixels in RGB, by source and stamp."""
    images: dict[str, dict[int, np.ndarray]] = {}
    with AnyReader([bag], default_typestore=typestore()) as reader:
        for connection, _, raw in reader.messages():
            message: Any = reader.deserialize(raw, connection.msgtype)
            if connection.topic.endswith('/image'):
                pixels = message.data.reshape(message.height, message.width, 3)
                at = images.setdefault(connection.topic.split('/')[1], {})
                at[stamp_to_ns(message.header.stamp)] = pixels[..., ::-1] if message.encoding == 'bgr8' else pixels
    return images


@pytest.mark.parametrize('to', ['hdf5', 'hdf5-aloha', 'parquet', 'mcap'])
def test_full_resolution_is_of_the_same_sets(mixed_bag: Path, tmp_path: Path, to: str) -> None:
    steps, recorded = observations(mixed_bag)[:-1], full_images(mixed_bag)
    assert main(['export', str(mixed_bag), '--to', to, '--out', str(tmp_path), '--resolution', 'full']) == 0
    written = episode_images(tmp_path, to)
    for camera, size in (('left_wrist', (48, 64, 3)), ('right_wrist', (48, 64, 3)), ('global', (64, 96, 3))):
        assert len(written[camera]) == len(steps) > 20 and written[camera][0].shape == size
        for image, step in zip(written[camera], steps):
            np.testing.assert_array_equal(image, recorded[camera][step.stamps_ns[camera]])


def episode_images(out: Path, to: str) -> dict[str, Any]:
    """Of the episode `mixed`, by camera."""
    cameras = {'left_wrist': 'left', 'right_wrist': 'right', 'global': 'global'}
    if to == 'parquet':
        table = pq.read_table(out / 'mixed.parquet')
        return {camera: table[f'{camera}_image'].combine_chunks().to_numpy_ndarray() for camera in cameras}
    if to == 'mcap':
        return {camera: list(images.values()) for camera, images in full_images(out / 'mixed_episode').items()}
    with h5py.File(out / 'mixed.hdf5') as file:
        folder = 'observations/images/{}' if to == 'hdf5-aloha' else 'observations/{}_image'
        return {camera: file[folder.format(camera if to == 'hdf5-aloha' else short)][:] for camera, short in cameras.items()}


def test_a_camera_that_changes_its_size_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def growing(event: Event, stamp_ns: int) -> Any:
        return ros_messages.image(
            stamp_ns, (LARGE if event.number > 20 else RIG).image(event.source, event.stamp_ns, event.number)
        )

    path = write_bag(tmp_path / 'changing', duration_s=1.0, image=growing)
    export(path, tmp_path / 'out', '--resolution', 'full', code=2)
    errors = capsys.readouterr().err
    assert f'bag {path}: images of ' in errors and 'change from 64×48 to 96×64 at ' in errors
    assert [found.name for found in (tmp_path / 'out').rglob('*')] == ['manifest.jsonl']
    export(path, tmp_path / 'resized').close()


def test_parquet_holds_the_steps_and_what_they_are_made_of(bag: Path, tmp_path: Path) -> None:
    sets = observations(bag)
    assert main(['export', str(bag), '--to', 'parquet', '--out', str(tmp_path), '--features']) == 0
    table = pq.read_table(tmp_path / 'rig.parquet')
    assert table['stamp_ns'].to_pylist() == [one.stamp_ns for one in sets[:-1]] and len(sets) > 50
    for number, camera in enumerate(('left_wrist', 'right_wrist', 'global')):
        np.testing.assert_array_equal(
            table[f'{camera}_image'].combine_chunks().to_numpy_ndarray(),
            [one.images[..., 3 * number : 3 * number + 3] for one in sets[:-1]],
        )
        assert table[f'{camera}_stamp_ns'].to_pylist() == [one.stamps_ns[camera] for one in sets[:-1]]
    assert table['joints'].to_pylist() == [one.joint_positions.tolist() for one in sets[:-1]]
    assert table['joint_states_skew_ms'].to_pylist() == [one.skew_ns['joint_states'] / 1e6 for one in sets[:-1]]
    np.testing.assert_array_equal(table['action'].to_pylist(), np.float32([one.joint_positions for one in sets[1:]]))
    about = {key.decode(): json.loads(value) for key, value in table.schema.metadata.items() if key.startswith(b'fused')}
    assert about['fused_encoder.spec'] == Settings.from_values({}).spec.to_dict()

    assert main(['encode', str(bag), '--out', str(tmp_path / 'encoded')]) == 0
    encoded = pq.read_table(tmp_path / 'encoded/rig.parquet')
    assert about['fused_encoder.model_hash'] == json.loads(encoded.schema.metadata[b'fused_encoder.model_hash'])
    assert table['feature'].to_pylist() == encoded['feature'].to_pylist()[:-1]


def test_a_bag_of_observations_gives_the_same_sets_and_features(bag: Path, tmp_path: Path) -> None:
    arguments = ['--to', 'mcap', '--out', str(tmp_path), '--features', '--task', 'stack the cups']
    assert main(['export', str(bag), *arguments]) == 0
    path = tmp_path / 'rig_episode'
    assert (
        main(['encode', str(bag), '--out', str(tmp_path / 'a')])
        == main(['encode', str(path), '--out', str(tmp_path / 'b')])
        == 0
    )
    first, again = pq.read_table(tmp_path / 'a/rig.parquet'), pq.read_table(tmp_path / 'b/rig_episode.parquet')
    assert 50 < len(again) == len(first) - 1
    for name in ('stamp_ns', 'feature', 'joints'):
        assert again[name].equals(first[name][: len(again)]), name

    stamps, features = first['stamp_ns'].to_pylist(), first['feature'].to_pylist()
    actions, described, published = [], [], []
    with AnyReader([path], default_typestore=typestore()) as reader:
        for connection, recorded_ns, raw in reader.messages():
            message: Any = reader.deserialize(raw, connection.msgtype)
            if connection.topic == '/action':
                assert tuple(message.name) == DEFAULT_JOINT_NAMES and stamp_to_ns(message.header.stamp) == recorded_ns
                actions.append(message.position.tolist())
            elif connection.topic == '/fused_encoder/sets':
                described.append(json.loads(message.data))
            elif connection.topic == '/fused_encoder/fused_feature_stamped':
                published.append(np.frombuffer(message.data, '<f4').tolist())
        about = yaml.safe_load((path / 'metadata.yaml').read_text())['rosbag2_bagfile_information']['custom_data']
    assert actions == first['joints'].to_pylist()[1:]
    assert published == features[:-1]
    assert [one['skew_ms']['left_wrist'] for one in described] == first['left_wrist_skew_ms'].to_pylist()[:-1]
    assert [one['stamp_ns'] for one in described] == stamps[:-1]
    assert json.loads(about['fused_encoder.episode'])['task'] == 'stack the cups'


def test_no_action_reaches_across_a_gap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def with_a_gap(event: Event) -> Times:
        return None if 900 * MS <= event.stamp_ns < 1300 * MS else as_it_is(event)

    path = write_bag(tmp_path / 'gap', with_a_gap, duration_s=2.0)
    with export(path, tmp_path / 'out', '--rate', 15, '--json') as episode:
        (said,) = json.loads(capsys.readouterr().out)
        assert said['unused']['no_action'] == 2  # the last before the gap, and the last of all
        stamps, joints, actions = (episode[name][:] for name in ('stamp_ns', 'observations/joint', 'actions'))
    followed = np.diff(stamps) < 100 * MS
    assert 15 < followed.sum() == len(followed) - 1
    np.testing.assert_array_equal(actions[:-1][followed], joints[1:][followed])


def test_two_things_on_one_topic_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_bag(tmp_path / 'renamed', duration_s=0.5, topics={**TOPICS, 'joint_states': '/action'})
    assert main(['export', str(path), '--to', 'mcap', '--out', str(tmp_path / 'out'), '--topic', 'joint_states=/action']) == 2
    assert '/action would be used as a topic twice in the bag' in capsys.readouterr().err


@pytest.mark.parametrize('limit', [1_000, 50_000, 400_000])
def test_a_full_disk_does_not_crash_hdf5(bag: Path, tmp_path: Path, limit: int) -> None:
    """At the first byte, in the middle, and where little is missing; the library would end the process with SIGSEGV."""
    done = subprocess.run(
        command('export', bag, '--out', tmp_path, '--to', 'hdf5'),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and 'cannot be written' in done.stderr and 'File too large' in done.stderr, done.stderr
    assert 'Traceback' not in done.stderr and results(tmp_path) == ['manifest.jsonl']
    assert not list(tmp_path.rglob('.partial-*'))
