"""The doctor: what it says about bags, parameters, checkpoints and Pythons with known faults, and that its advice works."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ros_messages
from faulty_bags import RIG, TOPICS, Times, as_it_is, write_bag
from ros_messages import MS, T0
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from fused_encoder_ros.cli import main
from fused_encoder_ros.diagnosis.diagnosis import Diagnosis, conclude
from fused_encoder_ros.diagnosis.facts.facts import gather
from fused_encoder_ros.diagnosis.machine.libraries import Environment, examine_environment
from fused_encoder_ros.diagnosis.machine.parameters import examine_parameters
from fused_encoder_ros.diagnosis.machine.transport import judge_transport, read_transport
from fused_encoder_ros.diagnosis.parameter_file import mend, write_parameters
from fused_encoder_ros.diagnosis.rules.findings import Finding, Severity
from fused_encoder_ros.diagnosis.rules.likely import likely_joints
from fused_encoder_ros.diagnosis.text import as_text
from fused_encoder_ros.model.checkpoint import Dimensions, random_encoder
from fused_encoder_ros.model.packed_checkpoint import write_packed
from fused_encoder_ros.offline.bag import Bag, BagWriter, typestore
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.settings import Settings, read_parameter_file
from fused_encoder_ros.settings.topics import JOINT_STATE
from fused_encoder_ros.spec import CAMERAS, ObservationSpec
from fused_encoder_ros.synthetic import Event

SOUND = Environment('3.11', {}, frozenset(), [])
NAMES = RIG.message_joint_names
PROFILE = Path(__file__).parent.parent.parent / 'config' / 'fastdds_large_images.xml'


@pytest.fixture(scope='module')
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp('bags') / 'sound', duration_s=3)


def diagnose(path: Path, **values: object) -> Diagnosis:
    stated = {name.replace('__', '.'): value for name, value in values.items()}
    settings = Settings.from_values(stated)
    with Bag(path, settings.topics, require_all=False) as bag:
        facts = gather(bag, settings)
    diagnosis = conclude(SOUND, examine_parameters(stated, has_torch=False), facts)
    for finding in faults(diagnosis):
        assert finding.evidence and finding.fix, finding
        assert finding.title in as_text(diagnosis)
    json.dumps(diagnosis.to_dict(), allow_nan=False)
    return diagnosis


def faults(diagnosis: Diagnosis) -> list[Finding]:
    return [finding for finding in diagnosis.verdict.findings if finding.severity < Severity.NOTE]


def fault(diagnosis: Diagnosis, title: str) -> Finding:
    (finding,) = [finding for finding in faults(diagnosis) if title in finding.title]
    return finding


def follow(path: Path, finding: Finding, **values: object) -> Diagnosis:
    """The diagnosis of the same bag once the advice is taken."""
    return diagnose(path, **{**values, **{name.replace('.', '__'): value for name, value in finding.parameters.items()}})


# Bags


def test_a_sound_bag_has_no_fault(sound: Path) -> None:
    diagnosis = diagnose(sound)
    assert diagnosis.verdict.severity is Severity.PASS and not faults(diagnosis)
    assert as_text(diagnosis).splitlines()[-1].startswith('PASS: 89 of 90 anchor frames became sets')
    assert '30.0 Hz, rgb8 64×48, 5.2 ms ± 0.2 ms from stamp to arrival' in as_text(diagnosis)


def shifted(source: str, ms: float) -> Callable[[Event], Times]:
    return lambda event: (event.publish_ns, event.stamp_ns - (int(ms * MS) if event.source == source else 0))


def everywhere(event: Event) -> Times:
    return event.publish_ns, event.stamp_ns + 40 * MS


def of_another_clock(event: Event) -> Times:
    return event.publish_ns, event.stamp_ns - 3_600_000 * MS


def on_arrival(event: Event) -> Times:
    return event.publish_ns, event.publish_ns - MS // 5 if event.source == 'right_wrist' else event.stamp_ns


@pytest.mark.parametrize(
    ('times', 'severity', 'title', 'evidence', 'fix'),
    [
        (
            lambda e: (e.publish_ns, -T0 if e.source == 'left_wrist' else e.stamp_ns),
            Severity.FAIL,
            '90 of 90 stamps of left_wrist are not set',
            'does not set header.stamp',
            'time of capture',
        ),
        (shifted('left_wrist', 80.2), Severity.WARN, 'left_wrist lags by 80', 'arrive 80', 'Synchronise'),
        (shifted('global', -45), Severity.WARN, 'global is ahead by 45', 'before the time in their stamps', 'Synchronise'),
        (everywhere, Severity.WARN, 'up to 40.0 ms in the future', 'clock that makes them is ahead', 'Synchronise'),
        (of_another_clock, Severity.WARN, 'joint_states are up to 60.0 min old', 'counts from its own start', 'chrony'),
        (on_arrival, Severity.WARN, 'right_wrist seems to be stamped on arrival', 'within 0.20 ms', 'time of capture'),
        (
            lambda e: None if e.source == JOINTS else as_it_is(e),
            Severity.FAIL,
            'no message of joint_states',
            'no message came',
            'drivers run',
        ),
    ],
)
def test_a_fault_of_the_stamps_or_streams_is_named(
    tmp_path: Path, times: Callable[[Event], Times], severity: Severity, title: str, evidence: str, fix: str
) -> None:
    diagnosis = diagnose(write_bag(tmp_path / 'bag', times, duration_s=3))
    finding = fault(diagnosis, title)
    assert finding.severity is severity and diagnosis.verdict.severity <= severity
    assert evidence in finding.evidence and fix in finding.fix


def test_a_frozen_camera_is_named(tmp_path: Path) -> None:
    """From the third second on its driver sends the last image again, under new stamps."""

    def image(event: Event, stamp_ns: int) -> Any:
        taken_ns = min(event.stamp_ns, 3_000 * MS) if event.source == 'left_wrist' else event.stamp_ns
        return ros_messages.image(stamp_ns, RIG.image(event.source, taken_ns, int(30 * taken_ns / 1e9)))

    bag = write_bag(tmp_path / 'bag', image=image)
    finding = fault(diagnose(bag), 'the picture of left_wrist does not change for 3.0 s')
    assert finding.severity is Severity.WARN and 'until 6.0 s after the beginning' in finding.evidence
    assert 'max_still_s' in finding.fix and not finding.parameters
    assert not faults(diagnose(bag, **{'diagnostics.max_still_s': 0.0}))


def test_of_two_cameras_one_is_named(tmp_path: Path) -> None:
    """The anchor is not there, and either of the two could be wrong."""
    topics = {**TOPICS, 'global': '/top/image_raw'}
    found = faults(diagnose(write_bag(tmp_path / 'bag', shifted('left_wrist', 80.2), topics=topics, duration_s=2)))
    assert [f.title.partition(' by ')[0] for f in found if 'by 80' in f.title] == ['left_wrist lags']


def test_a_missing_topic_is_given_with_the_line_that_mends_it(tmp_path: Path) -> None:
    path = write_bag(tmp_path / 'bag', topics={**TOPICS, 'global': '/top/image_raw'}, duration_s=2)
    finding = fault(diagnose(path), 'no usable topic for global')
    assert finding.lines == ['topics.global: /top/image_raw'] and finding.options == ['--topic global=/top/image_raw']
    assert not faults(follow(path, finding))


def test_joints_of_two_arms_are_found_together(tmp_path: Path) -> None:
    topics = {'/left/joint_states': NAMES[:8], '/right/joint_states': NAMES[8:], '/left/commands': NAMES[:8]}
    with BagWriter(tmp_path / 'bag', 'mcap', dict.fromkeys(topics, JOINT_STATE)) as writer:
        for ms in range(0, 1000, 10):
            for topic, names in topics.items():
                writer.write(topic, ros_messages.joint_state(T0 + ms * MS, names, [0.0] * len(names)), T0 + ms * MS)
    finding = fault(diagnose(tmp_path / 'bag'), 'no usable topic for')
    assert finding.parameters == {'topics.joint_states': ['/left/joint_states', '/right/joint_states']}


def test_one_of_several_joint_topics_is_missing(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'bag', 'mcap', {f'/{arm}/joint_states': JOINT_STATE for arm in ('left', 'right')}) as writer:
        for number, arm in enumerate(('left', 'right')):
            writer.write(f'/{arm}/joint_states', ros_messages.joint_state(T0, NAMES[8 * number :][:8], [0.0] * 8), T0)
    stated = ['/left/joint_states', '/rihgt/joint_states']
    finding = fault(diagnose(tmp_path / 'bag', topics__joint_states=stated), 'no usable topic for')
    assert '/rihgt/joint_states' in finding.evidence and '/left/joint_states' not in finding.evidence
    assert finding.parameters == {'topics.joint_states': ['/left/joint_states', '/right/joint_states']}
    assert finding.options == [f'--topic joint_states=/{arm}/joint_states' for arm in ('left', 'right')]
    facts = follow(tmp_path / 'bag', finding).facts
    assert facts is not None and not facts.joints.missing


def test_a_transport_that_nobody_publishes(sound: Path, tmp_path: Path) -> None:
    """Compressed is asked for and raw is there, and the other way round."""
    finding = fault(diagnose(sound, image_transport='compressed'), 'no usable topic')
    assert finding.parameters['image_transport'] == 'raw' and not faults(follow(sound, finding, image_transport='compressed'))
    packed = write_bag(tmp_path / 'bag', topics={**{c: f'/{c}/image/compressed' for c in CAMERAS}, JOINTS: '/j'}, duration_s=2)
    finding = fault(diagnose(packed), 'no usable topic')
    assert finding.parameters['topics.global'] == '/global/image/compressed' and not faults(follow(packed, finding))


def test_depth_for_colour_is_given_the_colour_topic(tmp_path: Path) -> None:
    def depth(event: Event, stamp_ns: int) -> Any:
        if event.source == 'left_wrist':
            return ros_messages.image(stamp_ns, np.zeros((8, 8), np.uint16), '16UC1')
        return ros_messages.image(stamp_ns)

    topics = {**TOPICS, 'left_wrist': '/cam_l/depth/image'}
    path = write_bag(tmp_path / 'bag', topics=topics, image=depth, also='/cam_l/color/image', duration_s=2)
    finding = fault(diagnose(path, topics__left_wrist='/cam_l/depth/image'), '60 of 60 messages of left_wrist cannot be used')
    assert '16UC1' in finding.evidence and finding.lines == ['topics.left_wrist: /cam_l/color/image']
    assert not faults(follow(path, finding))


def test_joint_names_are_held_against_the_robots_one_by_one(tmp_path: Path) -> None:
    path = write_bag(tmp_path / 'bag', joint_names=[name.replace('joint', 'arm_joint') for name in NAMES], duration_s=2)
    finding = fault(diagnose(path), '14 of 16 joints never come')
    assert 'joint_names has left_joint_1, the bag has left_arm_joint_1.' in finding.evidence
    mended = follow(path, finding)
    assert not faults(mended) and mended.facts is not None
    assert mended.facts.settings.spec.joint_names[:2] == ('left_arm_joint_1', 'left_arm_joint_2')


def test_a_joint_is_never_guessed_across_sides_numbers_or_ties() -> None:
    assert likely_joints(['left_elbow'], ['right_elbow_joint', 'left_elbow_joint']) == {'left_elbow': 'left_elbow_joint'}
    assert likely_joints(['left_elbow'], ['right_elbow']) == {}
    assert likely_joints(['joint_1', 'joint_2'], ['joint2', 'joint3']) == {'joint_2': 'joint2'}
    assert likely_joints(['shoulder'], ['shoulder_a', 'shoulder_b']) == {}
    assert likely_joints(['elbow_a', 'elbow_b'], ['elbow_c']) == {}
    assert likely_joints(['elbow'], ['finger']) == {}


def test_a_best_effort_publisher_in_a_bag_and_reliable_subscriptions(tmp_path: Path) -> None:
    never = QosTime(0, 0)
    reliabilities = {'/left_wrist/image': QosReliability.BEST_EFFORT, '/right_wrist/image': QosReliability.RELIABLE}
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, reliability in reliabilities.items():
            history, durability, liveliness = QosHistory.KEEP_LAST, QosDurability.VOLATILE, QosLiveliness.AUTOMATIC
            qos = Qos(history, 5, reliability, durability, never, never, liveliness, never, False)
            connection = writer.add_connection(
                topic, 'sensor_msgs/msg/Image', typestore=typestore(), offered_qos_profiles=[qos]
            )
            message = typestore().serialize_cdr(ros_messages.image(), connection.msgtype)
            writer.write(connection, T0, message)
    finding = fault(diagnose(tmp_path / 'bag', reliability='reliable'), 'receives nothing from left_wrist')
    assert finding.lines == ['reliability: auto']
    mended = follow(tmp_path / 'bag', finding)
    assert not [f for f in faults(mended) if 'receives nothing' in f.title]
    assert mended.facts is not None and mended.facts.offered == {'left_wrist': ['best_effort'], 'right_wrist': ['reliable']}


# The command


def test_command(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['doctor', str(sound), '--json']) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == ['verdict', 'sentence', 'findings', 'environment', 'encoder', 'transport', 'facts']
    assert printed['verdict'] == 'pass' and printed['facts']['counts']['sets'] == 89 and printed['environment']['torch']
    assert main(['doctor', str(sound), '--set', 'tolerance_ms=60']) == 3
    assert 'WARN  tolerance_ms 60 is more than a frame period' in capsys.readouterr().out
    for wrong in (['absent'], ['--write', str(tmp_path / 'p.yaml')], [str(sound), '--topic', 'x'], ['--seconds', '0']):
        assert main(['doctor', *wrong]) == 2
    with pytest.raises(SystemExit, match='2'):
        main(['doctor', str(sound), '--live'])


def test_the_written_file_makes_the_bag_encode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two topics, the joints' names and the tolerance are wrong, and can only be seen one after the other."""
    topics = {**TOPICS, 'global': '/top/image_raw', JOINTS: '/robot/joint_states'}
    bag = write_bag(tmp_path / 'bag', topics=topics, joint_names=[f'{name}_link' for name in NAMES], duration_s=2)
    out = tmp_path / 'params.yaml'
    arguments = ['doctor', str(bag), '--set', 'tolerance_ms=1', '--set', 'silence_s=7', '--write', str(out)]
    assert main(arguments) == 1
    values = read_parameter_file(out)
    assert values['topics.global'] == '/top/image_raw' and values['topics.joint_states'] == ['/robot/joint_states']
    assert values['tolerance_ms'] > 10 and values['silence_s'] == 7 and values['joint_names'][0] == 'left_joint_1_link'
    assert 'Not corrected' not in out.read_text() and 'right_wrist would be the best anchor' in out.read_text()
    before = out.read_text()
    capsys.readouterr()
    assert main([*arguments, '--set', 'silence_s=8']) == 2 and out.read_text() == before
    assert 'use --force' in capsys.readouterr().err
    assert main(['encode', str(bag), '--config', str(out), '--out', str(tmp_path / 'features'), '--json']) == 0
    (summary,) = json.loads(capsys.readouterr().out)
    assert summary['sets'] >= 58
    assert not faults(diagnose(bag, **{name.replace('.', '__'): value for name, value in values.items()}))


def test_strings_of_a_bag_stay_comments(tmp_path: Path) -> None:
    hostile = 'j\n    seed: 7 # \x1b[31m'
    bag = write_bag(tmp_path / 'bag', joint_names=[f'{hostile}{i}' for i in range(16)], duration_s=1)
    facts = diagnose(bag).facts
    assert facts is not None and facts.joints.missing
    text = write_parameters(mend({}, facts, lambda settings: facts), 'a bag\n    seed: 7')
    out = tmp_path / 'params.yaml'
    out.write_text(text)
    assert '\N{REPLACEMENT CHARACTER}[31m' in text and '\x1b' not in text and 'seed' not in read_parameter_file(out)


# Parameters and checkpoint


def test_refused_parameters_are_a_finding() -> None:
    refused = examine_parameters({'tolerance': 5}, has_torch=True)
    diagnosis = conclude(SOUND, refused)
    assert diagnosis.verdict.severity is Severity.FAIL and refused.settings is None
    assert as_text(diagnosis).endswith('fix: Did you mean tolerance_ms?\n\nFAIL: The node refuses these parameters.')


def test_a_parameter_file_that_only_a_node_in_a_namespace_reads_is_a_remark(tmp_path: Path) -> None:
    path = tmp_path / 'robot.yaml'
    for section, is_told in (('/left/fused_encoder', True), ('fused_encoder', False)):
        path.write_text(f'{section}:\n  ros__parameters:\n    tolerance_ms: 5.0\n')
        told = [finding.title for finding in examine_parameters({}, has_torch=False, config=path).findings]
        assert (f'{path} is for a node in a namespace' in told) is is_told


def test_a_checkpoint_against_the_parameters(tmp_path: Path) -> None:
    spec = ObservationSpec(joint_names=('elbow', 'wrist'))
    packed, bare = tmp_path / 'packed.safetensors', tmp_path / 'bare.pth'
    encoder = random_encoder(Dimensions('single', 2, 16, 8), seed=1)
    write_packed(packed, encoder, spec)
    import torch

    torch.save(encoder.state_dict(), bare)
    good = examine_parameters({'checkpoint': str(packed), 'engine': 'eager'}, has_torch=True)
    assert not good.findings and good.settings is not None and good.settings.spec == spec and 'eager' in good.encoder
    wrong = examine_parameters({'checkpoint': str(packed), 'joint_names': ['wrist', 'elbow']}, has_torch=True)
    (finding,) = wrong.findings
    assert finding.severity is Severity.FAIL and "is ['wrist', 'elbow']" in finding.evidence
    assert 'Remove joint_names' in finding.fix and wrong.settings is not None
    (finding,) = examine_parameters({'checkpoint': str(bare), 'engine': 'eager'}, has_torch=True).findings
    assert finding.severity is Severity.FAIL and 'trained with 2 joints, but joint_names lists 16' in finding.evidence
    (finding,) = examine_parameters(
        {'checkpoint': str(bare), 'joint_names': ['a', 'b'], 'engine': 'eager'}, has_torch=True
    ).findings
    assert finding.severity is Severity.NOTE and f'fused-encoder pack {bare}' in finding.commands[0]
    (finding,) = examine_parameters({'checkpoint': str(tmp_path / 'absent.pth')}, has_torch=True).findings
    assert finding.severity is Severity.FAIL and 'absent.pth' in finding.evidence


# Libraries and DDS


def doctor_beside(folder: Path, modules: dict[str, str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """The command in a Python that finds these modules first."""
    for name, code in modules.items():
        (folder / f'{name}.py').write_text(code)
    root = Path(__file__).parent.parent.parent
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join((str(folder), str(root)))}
    command = [sys.executable, '-m', 'fused_encoder_ros.cli', 'doctor', *arguments, '--json']
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_libraries_that_break_are_findings(tmp_path: Path, sound: Path) -> None:
    """One raises and one crashes; neither ends the doctor, nor keeps it from the bag."""
    code, said = doctor_beside(
        tmp_path,
        {
            'cv_bridge': 'raise AttributeError("_ARRAY_API not found")',
            'openvino': 'import os, signal; os.kill(os.getpid(), signal.SIGSEGV)',
        },
        str(sound),
    )
    assert code == 3 and said['facts']['counts']['sets'] == 89
    found = {finding['title'].split()[0]: finding for finding in said['findings'] if finding['severity'] == 'warn'}
    assert set(found) == {'cv_bridge', 'openvino'} and 'SIGSEGV' in found['openvino']['evidence']
    assert '_ARRAY_API not found' in found['cv_bridge']['evidence']
    assert np.__version__.startswith('1.') or found['cv_bridge']['commands'] == ["pip install 'numpy<2'"]


def test_a_broken_torch_fails_and_the_rest_is_examined(tmp_path: Path, sound: Path) -> None:
    modules = {'torch': 'import torch_cuda_of_another_machine'}
    code, said = doctor_beside(tmp_path, modules, str(sound), '--checkpoint', 'some.safetensors')
    assert code == 1 and said['facts']['counts']['sets'] == 89
    assert [f['title'] for f in said['findings'] if f['severity'] == 'fail'] == ['torch is installed but does not work']
    assert said['sentence'].startswith('Torch is installed but does not work. 89 of 90')


def test_a_robot_cannot_be_heard_without_rclpy(tmp_path: Path) -> None:
    code, said = doctor_beside(tmp_path, {'rclpy': 'raise ImportError("built for another Python")'}, '--live')
    (finding,) = [finding for finding in said['findings'] if finding['severity'] == 'fail']
    assert code == 1 and said['facts'] is None and finding['title'] == 'rclpy is installed but does not work'
    assert 'built for another Python' in finding['evidence'] and finding['commands'] == [
        'source /opt/ros/$ROS_DISTRO/setup.bash'
    ]


def test_a_middleware_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('RMW_IMPLEMENTATION', 'rmw_absent_cpp')
    (finding,) = examine_environment(['rclpy']).findings
    assert finding.severity is Severity.FAIL and 'rmw_absent_cpp' in finding.evidence
    assert finding.commands == ('sudo apt install ros-$ROS_DISTRO-rmw-absent-cpp',)


def test_this_python_is_sound() -> None:
    environment = examine_environment(['rclpy', 'rosbags'])
    assert not environment.broken and not environment.findings
    assert {'torch', 'torchvision', 'numpy', 'cv2', 'rclpy', 'rosbags'} <= set(environment.versions)


@pytest.mark.parametrize(
    ('environment', 'title'),
    [
        ({'ROS_DISTRO': 'jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE': str(PROFILE)}, ''),
        ({'ROS_DISTRO': 'kilted', 'FASTDDS_DEFAULT_PROFILES_FILE': str(PROFILE)}, ''),
        ({'FASTDDS_DEFAULT_PROFILES_FILE': str(PROFILE)}, ''),
        ({'ROS_DISTRO': 'kilted', 'FASTRTPS_DEFAULT_PROFILES_FILE': str(PROFILE)}, 'images of 900 KiB do not fit'),
        ({}, 'images of 900 KiB do not fit'),
        ({'FASTRTPS_DEFAULT_PROFILES_FILE': '/absent.xml'}, 'profile of Fast DDS is not used'),
        ({'FASTRTPS_DEFAULT_PROFILES_FILE': __file__}, 'profile of Fast DDS is not used'),
    ],
)
def test_shared_memory_against_the_images(environment: dict[str, str], title: str) -> None:
    found = list(judge_transport(read_transport('rmw_fastrtps_cpp', environment), 3, 640 * 480 * 3, is_losing=True))
    assert [bool(re.search(title, finding.title)) for finding in found] == ([True] if title else [])
    assert all(finding.commands[0].endswith(f'={PROFILE}') for finding in found)
    assert not list(judge_transport(read_transport('rmw_cyclonedds_cpp', environment), 3, 640 * 480 * 3, is_losing=True))


@pytest.fixture
def router() -> Iterator[int]:
    """The port of something that answers as a Zenoh router does when it is only asked whether it is there."""
    with socket.create_server(('localhost', 0)) as server:
        yield server.getsockname()[1]


def zenoh(largest_image: int, is_losing: bool, **environment: str) -> list[Finding]:
    return list(judge_transport(read_transport('rmw_zenoh_cpp', environment), 3, largest_image, is_losing))


@pytest.mark.parametrize(('largest_image', 'severity'), [(0, Severity.FAIL), (900, Severity.WARN)])
def test_zenoh_without_a_router(router: int, largest_image: int, severity: Severity) -> None:
    """Whoever has found the others goes on without it; whoever has not hears nothing."""
    endpoints = 'connect/endpoints=["tcp/localhost:1", "tcp/localhost:{}"]'
    (finding,) = zenoh(largest_image, False, ZENOH_CONFIG_OVERRIDE=endpoints.format(2))
    assert finding.severity is severity and finding.title == 'no Zenoh router answers at localhost:1 or localhost:2'
    assert finding.commands[0] == 'ros2 run rmw_zenoh_cpp rmw_zenohd'
    assert not zenoh(largest_image, False, ZENOH_CONFIG_OVERRIDE=endpoints.format(router))


@pytest.mark.parametrize(
    'environment',
    [
        {'ZENOH_CONFIG_OVERRIDE': 'connect/endpoints=["tcp/localhost:1"];scouting/multicast/enabled=true'},
        {'ZENOH_CONFIG_OVERRIDE': 'connect/endpoints=["tls/robot:7447"]'},
        {'ZENOH_SESSION_CONFIG_URI': '/etc/zenoh/session.json5'},
    ],
)
def test_zenoh_that_needs_no_router_or_one_elsewhere(environment: dict[str, str]) -> None:
    assert not zenoh(0, True, **environment)


def test_zenoh_and_images_that_get_lost(router: int) -> None:
    """Shared memory is off unless somebody switches it on; what is already set stays in the command."""
    override = f'connect/endpoints=["tcp/localhost:{router}"]'
    (finding,) = zenoh(640 * 480 * 3, True, ZENOH_CONFIG_OVERRIDE=override)
    assert finding.title == 'the shared memory of Zenoh is off'
    shared = f'{override};transport/shared_memory/enabled=true'
    assert finding.commands == (f"export ZENOH_CONFIG_OVERRIDE='{shared}'",)
    assert not zenoh(640 * 480 * 3, False, ZENOH_CONFIG_OVERRIDE=override)
    assert not zenoh(640 * 480 * 3, True, ZENOH_CONFIG_OVERRIDE=shared)
    (finding,) = zenoh(640 * 480 * 3, True, ZENOH_CONFIG_OVERRIDE=shared, ZENOH_SHM_ALLOC_SIZE=str(2**50))
    assert finding.title == '/dev/shm is nearly full'
