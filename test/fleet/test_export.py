"""Data sets for training: what a policy learns from is what the node would make."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader

from fused_encoder_ros import Observation, Settings, read_observations
from fused_encoder_ros.cli import main
from fused_encoder_ros.offline.bag import BagWriter, typestore
from fused_encoder_ros.offline.episodes import Unused, at_rate
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.spec import DEFAULT_JOINT_NAMES
from fused_encoder_ros.synthetic import Rig

RIG = Rig(width=64, height=48)
MS = 1_000_000


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
        (['--action-topic', '/nowhere'], 'the action topic /nowhere is not there; of trajectory_msgs/msg/JointTrajectory'),
        (['--action-topic', '/global/image'], 'the action topic /global/image is sensor_msgs/msg/Image'),
        (
            ['--action-topic', '/joint_states', '--action-names', 'wheel'],
            'the commands on /joint_states lack wheel; they have',
        ),
        (['--rate', '0'], '--rate: 0 is too small'),
        (['--action-later', '-1'], '--action-later: -1 is too small'),
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
