"""From recordings to a warning on the robot: a profile is made, packed, and found faults are the same live and in the bag."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from lifecycle_msgs.msg import Transition
from live import Desk, change, set_parameter
from rosbags.highlevel import AnyReader

from fused_encoder_ros.cli import main
from fused_encoder_ros.fleet.manifest import read_manifest
from fused_encoder_ros.lab import Lab
from fused_encoder_ros.model import ImageJointEncoder
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.pipeline.data import Drop, Observation
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.settings.topics import absolute
from fused_encoder_ros.spec import ObservationSpec
from fused_encoder_ros.synthetic import Rig

EXCHANGED = {'topics.left_wrist': '/right_wrist/image', 'topics.right_wrist': '/left_wrist/image'}
TOPICS = {f'/{camera}/image': 'sensor_msgs/msg/Image' for camera in ObservationSpec().cameras}


def rig(seed: int) -> Rig:
    light = 0.9 + 0.04 * (seed % 6)
    return Rig(seed=seed, lab=Lab(objects=seed, brightness=light), width=112, height=84)


@pytest.fixture(scope='module')
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the profile of six recordings, made with the commands."""
    folder = tmp_path_factory.mktemp('content')
    for seed in range(6):
        write_rig_bag(folder / 'training' / str(seed), rig(seed), 6.0)
    weights, spec, checkpoint = folder / 'run.pth', folder / 'spec.yaml', folder / 'packed.safetensors'
    torch.save(ImageJointEncoder(joint_dim=16, image_feature_dim=32, fusion_dim=16).state_dict(), weights)
    spec.write_text(yaml.safe_dump(ObservationSpec().to_dict()))
    made = ['profile', str(folder / 'training'), '--out', str(folder / 'profile'), '--checkpoint', str(weights)]
    assert main([*made, '--set', 'engine=eager']) == 0
    profile = ['--profile', str(folder / 'profile' / 'profile.npz')]
    assert main(['pack', str(weights), '--spec', str(spec), *profile, '--out', str(checkpoint)]) == 0
    return checkpoint


@pytest.fixture(scope='module')
def today(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording that was not trained on."""
    bag = tmp_path_factory.mktemp('today') / 'bag'
    write_rig_bag(bag, rig(40), 7.0)
    return bag


def test_the_profile_is_that_of_the_loaded_model(packed: Path, tmp_path: Path, desk: Desk) -> None:
    """The file is gone by the time that the node is activated."""
    checkpoint = Path(shutil.copy(packed, tmp_path))
    node = desk.start(checkpoint=checkpoint, autostart='false')
    assert change(desk, Transition.TRANSITION_CONFIGURE)
    checkpoint.unlink()
    assert set_parameter(desk, 'tolerance_ms', 15.0).successful
    assert change(desk, Transition.TRANSITION_ACTIVATE), node.log
    desk.wait(lambda: desk.diagnostics, 'diagnostics')
    assert 'feature_distance' in desk.status('encoder')[2]


def test_a_bag_unlike_the_other_training_data_is_named(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = Rig(seed=50, lab=Lab(objects=50, brightness=0.05), width=112, height=84)
    write_rig_bag(tmp_path / 'dark', dark, 6.0)
    shutil.copytree(packed.parent / 'profile', tmp_path / 'profile')
    made = ['profile', str(packed.parent / 'training'), str(tmp_path / 'dark'), '--out', str(tmp_path / 'profile')]
    capsys.readouterr()
    assert main([*made, '--checkpoint', str(packed.parent / 'run.pth'), '--set', 'engine=eager']) == 0
    odd = [line for line in capsys.readouterr().err.splitlines() if 'unlike in the other bags' in line]
    assert len(odd) == 3 and all(line.startswith(f'WARNING: {tmp_path}/dark: ') for line in odd)
    assert 'global shows almost nothing: it is covered, or it is dark, unlike in the other bags (contrast ' in odd[-1]


def test_the_node_refuses_what_the_bag_refuses(desk: Desk, packed: Path, today: Path) -> None:
    settings = Settings.from_values({'checkpoint': str(packed), 'content_faults': 'refuse', 'engine': 'eager', **EXCHANGED})
    values = {'checkpoint': packed, 'content_faults': 'refuse', 'silence_s': 600.0}
    live = desk.start(**values, **{name.replace('.', '__'): topic for name, topic in EXCHANGED.items()})
    desk.advertise({**TOPICS, '/joint_states': 'sensor_msgs/msg/JointState'})
    desk.wait_until_heard()
    pipeline = settings.pipeline()
    sources = {absolute(topic): source for source, topics in settings.topics.items() for topic in topics}
    decided: dict[int, str] = {}
    with AnyReader([today]) as reader:
        for connection, _, raw in reader.messages():
            desk.publishers[connection.topic].publish(bytes(raw))
            outcomes = pipeline.push(sources[connection.topic], reader.deserialize(raw, connection.msgtype))
            for outcome in outcomes:
                if isinstance(outcome, (Observation, Drop)):
                    decided[outcome.stamp_ns] = outcome.key if isinstance(outcome, Drop) else 'set'
            if any(isinstance(outcome, (Observation, Drop)) for outcome in outcomes):
                desk.wait(lambda: max(decided) in desk.sets() | desk.drops(), 'a report')
    refused = [stamp for stamp, what in decided.items() if what == 'content:exchanged']
    assert len(refused) > 15
    assert {**dict.fromkeys(desk.sets(), 'set'), **desk.drops()} == decided
    desk.wait(lambda: int(desk.status('encoder')[2].get('dropped: content:exchanged', '0')) == len(refused), 'the count')
    level, message, values_told = desk.status('left_wrist')
    assert level == 1 and 'left_wrist shows what right_wrist showed in training (with this fault undone,' in message
    assert float(values_told['distance_from_training']) > 0 and desk.status('global')[0] == 0
    assert 'Exchange topics.left_wrist and topics.right_wrist' in live.log


def test_the_doctor_names_it_and_writes_the_topics(packed: Path, today: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = today.parent / 'fixed.yaml'
    topics = [f'--topic={name.removeprefix("topics.")}={topic}' for name, topic in EXCHANGED.items()]
    arguments = ['doctor', str(today), '--checkpoint', str(packed), '--set', 'engine=eager']
    assert main([*arguments, *topics, '--write', str(fixed), '--json']) == 1
    findings = json.loads(capsys.readouterr().out)['findings']
    exchanged = {f['title']: f['parameters'] for f in findings if f['severity'] == 'fail'}
    right = {'topics.left_wrist': '/left_wrist/image', 'topics.right_wrist': '/right_wrist/image'}
    assert exchanged == {
        'left_wrist shows what right_wrist showed in training': right,
        'right_wrist shows what left_wrist showed in training': right,
    }
    assert main(['doctor', str(today), '--config', str(fixed), '--json']) == 0
    assert not [f for f in json.loads(capsys.readouterr().out)['findings'] if f['severity'] != 'note']


def test_encoding_tells_it_and_measures_features(
    packed: Path, today: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow.parquet as pq

    arguments = ['encode', str(today), '--checkpoint', str(packed)]
    topics = [f'--topic={name.removeprefix("topics.")}={topic}' for name, topic in EXCHANGED.items()]
    assert main([*arguments, '--json', '--out', str(tmp_path / 'sound')]) == 0
    (sound,) = json.loads(capsys.readouterr().out)
    assert main([*arguments, *topics, '--out', str(tmp_path / 'wrong')]) == 0
    (wrong,) = (record.summary for record in read_manifest(str(tmp_path / 'wrong'))[1])
    assert f'WARNING: {today}: left_wrist shows what right_wrist showed in training (' in capsys.readouterr().err
    assert sound['content'] == [] and {one['fault'] for one in wrong['content']} == {'exchanged'}
    assert sound['sets'] == wrong['sets'] and not wrong['drops'].keys() & {'content:exchanged'}
    distances = pq.read_table(tmp_path / 'sound' / 'bag.parquet')['feature_distance'].to_pylist()
    assert len(distances) == sound['sets'] and min(distances) >= 0 and sound['features']['distance'] < 1


def test_without_a_profile_one_remark_says_what_is_missed(
    today: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, spec, checkpoint = tmp_path / 'run.pth', tmp_path / 'spec.yaml', tmp_path / 'packed.safetensors'
    torch.save(ImageJointEncoder(joint_dim=16, image_feature_dim=32, fusion_dim=16).state_dict(), weights)
    spec.write_text('image_size: 84\n')
    assert main(['pack', str(weights), '--spec', str(spec), '--out', str(checkpoint)]) == 0
    capsys.readouterr()
    assert main(['doctor', str(today), '--checkpoint', str(checkpoint), '--set', 'engine=eager', '--json']) == 0
    notes = [f for f in json.loads(capsys.readouterr().out)['findings'] if 'not compared with the training data' in f['title']]
    assert len(notes) == 1 and notes[0]['severity'] == 'note' and 'fused-encoder profile' in notes[0]['commands'][0]


def test_a_profile_that_does_not_fit_is_not_packed(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = packed.parent
    profile = folder / 'profile' / 'profile.npz'
    other = tmp_path / 'other.pth'
    torch.save(ImageJointEncoder(joint_dim=16, image_feature_dim=32, fusion_dim=16).state_dict(), other)
    small = tmp_path / 'small.yaml'
    small.write_text('image_size: 64\n')
    cut = tmp_path / 'cut.npz'
    cut.write_bytes(profile.read_bytes()[:1000])
    for weights, spec, given, says in (
        (other, folder / 'spec.yaml', profile, 'its features were made with other weights'),
        (folder / 'run.pth', small, profile, 'was made with image_size 84, but the observation spec has 64'),
        (folder / 'run.pth', folder / 'spec.yaml', cut, 'not a profile, or it is truncated'),
        (folder / 'run.pth', folder / 'spec.yaml', tmp_path / 'absent.npz', 'cannot be read: No such file'),
    ):
        out = tmp_path / 'packed.safetensors'
        assert main(['pack', str(weights), '--spec', str(spec), '--profile', str(given), '--out', str(out)]) == 2
        assert says in capsys.readouterr().err and not out.exists()


def test_inspect_shows_the_profile(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / 'profile.png'
    assert main(['inspect', str(packed), '--picture', str(picture)]) == 0
    told = capsys.readouterr().out
    assert 'profile             6 bags, ' in told and 'left_joint_1      -' in told
    assert picture.read_bytes().startswith(b'\x89PNG')
    for place, says in ((tmp_path / 'profile.xyz', 'does not end with .png'), (tmp_path, 'does not end with .png')):
        assert main(['inspect', str(packed), '--picture', str(place)]) == 2
        assert says in capsys.readouterr().err
    assert main(['inspect', str(packed), '--picture', '/proc/profile.png']) == 2
    assert 'output folder /proc cannot be written' in capsys.readouterr().err
