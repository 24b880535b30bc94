"""The node as it is on a robot: what goes wrong there, and what it says."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rclpy
import ros_messages
import torch
from lifecycle_msgs.msg import Transition
from live import Desk, call, change, set_parameter, stamp_ns, state
from rcl_interfaces.srv import DescribeParameters, GetParameters
from rclpy.qos import ReliabilityPolicy
from robot import CAMERAS, IMAGES, JOINTS, T0, header, image, joint_state, ready, send_sets, wait_for_report
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_srvs.srv import Trigger

from fused_encoder_ros.model import ImageJointEncoder, ThreeStreamEncoder
from fused_encoder_ros.model.packed_checkpoint import write_packed
from fused_encoder_ros.spec import DEFAULT_JOINT_NAMES, ObservationSpec


def test_outputs(desk: Desk) -> None:
    montages: list[Image] = []
    ready(desk, silence_s=600.0)
    desk.node.create_subscription(Image, '/fused_encoder/observation', montages.append, 10)
    desk.spin(0.5)
    for ms in range(0, 500, 50):
        for value, topic in zip((10, 20, 30), IMAGES):
            desk.publishers[topic].publish(image(ms, value))
        desk.publishers['/joint_states'].publish(joint_state(ms))
        wait_for_report(desk, ms)
    desk.wait(lambda: len(desk.stamped) == 10 and montages, '10 features')
    assert [stamp_ns(m) for m in desk.stamped] == [T0 + ms * 10**6 for ms in range(0, 500, 50)]
    dimension = desk.plain[0].layout.dim[0]
    assert (dimension.label, dimension.size) == ('fused_feature', 256) and len(desk.plain[0].data) == 256
    assert (desk.stamped[0].encoding, desk.stamped[0].height, desk.stamped[0].width) == ('32FC1', 1, 256)
    views = np.frombuffer(montages[-1].data, np.uint8).reshape(84, 3, 84, 3)
    assert [int(views[:, i].min()) for i in range(3)] == [int(views[:, i].max()) for i in range(3)] == [10, 20, 30]
    desk.wait(lambda: desk.diagnostics and desk.status('encoder')[2]['sets'] == '10', 'diagnostics')
    level, message, values = desk.status('encoder')
    assert level == 1 and 'RANDOM' in message and values['model_hash'] == desk.stamped[0].header.frame_id
    assert 'RANDOM weights' in desk.processes[0].log and 'message_filters' in desk.processes[0].log


def test_rig_and_node_account_for_every_anchor(desk: Desk) -> None:
    desk.start()
    desk.wait_for_outputs()
    rig = desk.start('rig', duration_s=3.0, wait_for_listeners_s=20.0, width=160, height=120, joint_rate_hz=500)
    desk.wait(lambda: rig.process.poll() is not None, 'the rig to finish')
    assert rig.process.returncode == 0, rig.log
    seen = len(desk.diagnostics)
    desk.wait(lambda: len(desk.diagnostics) >= seen + 2, 'diagnostics')
    _, _, values = desk.status('encoder')
    drops = sum(int(v) for k, v in values.items() if k.startswith('dropped: '))
    assert int(values['anchors']) == int(values['sets']) + drops + int(values['waiting'])
    assert int(values['sets']) > 0
    assert len(desk.sets()) == int(values['sets'])


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_cleanly(desk: Desk, number: int) -> None:
    ready(desk, fresh=True)
    send_sets(desk, 0, 3)
    node = desk.processes[0]
    assert node.stop(number) == 0
    assert 'Traceback' not in node.log and '[fused_encoder]: no feature' not in node.log


def test_signal_during_start(desk: Desk) -> None:
    node = desk.start(fresh=True)
    maps = Path(f'/proc/{node.process.pid}/maps')
    desk.wait(lambda: 'libtorch' in maps.read_text(), 'torch being imported')
    node.process.send_signal(signal.SIGINT)
    assert node.stop(signal.SIGINT) == 0 and 'Traceback' not in node.log


@pytest.mark.parametrize('module', ['main', 'rig'])
def test_many_signals_end_it_as_cleanly_as_one(desk: Desk, module: str) -> None:
    """From a terminal, from launch and from somebody impatient, also while it is ending."""
    live = desk.start(module, fresh=True)
    topic = {'main': '/fused_encoder/sets', 'rig': '/joint_states'}[module]
    desk.wait(lambda: desk.node.count_publishers(topic), module)
    for _ in range(2000):
        live.process.send_signal(signal.SIGINT)
        live.process.send_signal(signal.SIGTERM)

    def ended() -> bool:
        live.process.send_signal(signal.SIGTERM)
        return live.process.poll() is not None

    desk.wait(ended, 'the end')
    assert live.stop() == 0
    assert 'Traceback' not in live.log, live.log


def test_a_signal_ends_a_wait_whenever_it_comes() -> None:
    """Also at the very moment at which the wait begins or ends."""
    program = """
import signal
from fused_encoder_ros.ros.stopping import Stop

signal.signal(signal.SIGALRM, lambda *_: stop.set())
for i in range(5000):
    stop = Stop()
    signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + i % 200))
    while not stop.wait(1e-5):
        pass
"""
    subprocess.run([sys.executable, '-c', program], check=True, timeout=60)


def test_a_topic_that_nobody_publishes_is_named(desk: Desk) -> None:
    node = desk.start(silence_s=1.0, topics__left_wrist='/wrist_left/image')
    desk.advertise({t: k for t, k in (IMAGES | JOINTS).items() if 'left' not in t})
    desk.wait_until_heard()
    send_sets_without(desk, '/left_wrist/image')

    def named() -> bool:
        lines = [line for line in node.log.splitlines() if 'no set for' in line and '/global/image' not in line]
        return any(
            '/wrist_left/image: 0 messages' in x and 'nobody publishes it' in x and 'topics.left_wrist' in x for x in lines
        )

    desk.wait(named, 'a line that names the silent topic alone')
    desk.wait(lambda: desk.diagnostics and desk.status('left_wrist')[0] == 2, 'an ERROR for left_wrist')
    assert set(desk.drops().values()) == {'no_match:left_wrist'}


def send_sets_without(desk: Desk, silent: str) -> None:
    for ms in range(0, 1500, 50):
        for topic in IMAGES:
            if topic != silent:
                desk.publishers[topic].publish(image(ms))
        desk.publishers['/joint_states'].publish(joint_state(ms))
        desk.spin(0.04)


def test_zero_stamps_are_named(desk: Desk) -> None:
    ready(desk, silence_s=1.0)
    for _ in range(30):
        for topic in IMAGES:
            desk.publishers[topic].publish(image(-1))
        desk.publishers['/joint_states'].publish(joint_state(0))
        desk.spin(0.05)
    desk.wait(lambda: desk.drops(), 'drops')
    assert set(desk.drops().values()) == {'bad_stamp'}
    desk.wait_for_log(desk.processes[0], 'the driver does not set header.stamp')


def test_stamps_running_backwards_flush_and_go_on(desk: Desk) -> None:
    ready(desk)
    send_sets(desk, 60_000, 5)
    send_sets(desk, 0, 10)
    desk.wait(lambda: len(desk.sets()) >= 14, 'sets after the jump')
    desk.wait(lambda: stamp_ns(desk.stamped[-1]) == T0 + 450 * 10**6, 'the last feature')


def test_bad_images_are_named_once_and_recovered_from(desk: Desk) -> None:
    ready(desk)
    send_sets(desk, 0, 3)
    for number, changes in enumerate(
        [{'encoding': 'hsv9'}, {'data': bytes(500)}, {'step': 3}, {'encoding': '32FC1'}, {'encoding': '8UC3'}]
    ):
        ms = 1000 + 50 * number
        desk.publishers['/global/image'].publish(image(ms, **changes))
        desk.spin(0.05)
    desk.wait(lambda: len(desk.drops()) == 5, 'drops')
    assert set(desk.drops().values()) == {'undecodable'}
    send_sets(desk, 2000, 3)
    desk.wait(lambda: len(desk.sets()) == 6, 'sets after the bad images')
    log = desk.processes[0].log
    assert log.count("global: encoding 'hsv9' is unknown") == 1 and 'global: usable again' in log


def test_bad_joint_states_are_named(desk: Desk) -> None:
    ready(desk, silence_s=1.0)
    names = [name for name in DEFAULT_JOINT_NAMES if name != 'right_gripper']
    for ms in range(0, 1500, 50):
        for topic in IMAGES:
            desk.publishers[topic].publish(image(ms))
        state = JointState(header=header(ms), name=[*names, 'wheel'], position=[0.0] * 16)
        state.position[2] = float('nan')
        desk.publishers['/joint_states'].publish(state)
        desk.spin(0.04)
    desk.wait(lambda: desk.drops(), 'drops')
    details = {report['detail'] for report in desk.reports}
    assert set(desk.drops().values()) == {'no_joints'}
    assert any('left_joint_3, right_gripper' in detail for detail in details), details
    assert 'position is NaN, infinite or beyond 1e+09: left_joint_3' in desk.processes[0].log


def test_joint_publishers_may_share_the_topic(desk: Desk) -> None:
    ready(desk)
    for ms in range(0, 500, 50):
        for topic in IMAGES:
            desk.publishers[topic].publish(image(ms))
        for half in (DEFAULT_JOINT_NAMES[8:], DEFAULT_JOINT_NAMES[:8]):
            values = [float(DEFAULT_JOINT_NAMES.index(name)) for name in half]
            desk.publishers['/joint_states'].publish(JointState(header=header(ms), name=list(half), position=values))
        wait_for_report(desk, ms)
    desk.wait(lambda: len(desk.sets()) == 10, 'sets')
    assert all(report['joint_positions'] == list(range(16)) for report in desk.sets().values())


def test_joints_come_over_several_topics(desk: Desk) -> None:
    """Two arms and a gripper, each on its own topic and at its own times; then the gripper stops."""
    *left, gripper = DEFAULT_JOINT_NAMES[:8]
    parts = {'/left': left, '/right': list(DEFAULT_JOINT_NAMES[8:]), '/gripper': [gripper]}
    node = desk.start(topics__joint_states=f'[{", ".join(parts)}]', silence_s=1.0)
    desk.wait_for_log(node, 'active')
    desk.advertise(IMAGES | dict.fromkeys(parts, 'sensor_msgs/msg/JointState'))
    desk.wait_until_heard()

    def send(ms: int, *topics: str) -> None:
        for camera in IMAGES:
            desk.publishers[camera].publish(image(ms))
        for number, topic in enumerate(topics):
            for at in (ms - 10 + number, ms + 10 + number):
                # A joint's position is its number plus the time, ms.
                position = [float(DEFAULT_JOINT_NAMES.index(name) + at) for name in parts[topic]]
                desk.publishers[topic].publish(JointState(header=header(at), name=parts[topic], position=position))

    for ms in range(50, 550, 50):
        send(ms, *parts)
        wait_for_report(desk, ms)
    assert len(desk.sets()) == 10
    for at_ns, report in desk.sets().items():
        assert report['joint_positions'] == pytest.approx([number + (at_ns - T0) / 1e6 for number in range(16)])
    for ms in range(550, 2050, 50):
        send(ms, '/left', '/right')
        desk.spin(0.05)
    desk.wait(lambda: 'no_joints' in desk.drops().values(), 'a drop')
    details = [report['detail'] for report in desk.reports if report.get('drop') == 'no_joints']
    assert details[-1].endswith(f'missing: {gripper}')
    desk.wait(lambda: desk.status('joint_states (/gripper)')[0] == 2, 'an ERROR for the silent topic')
    desk.wait(lambda: desk.status('encoder')[2]['stale_joints'] == gripper, 'the joint in diagnostics')
    assert '/gripper: 0 messages in' in node.log


@pytest.mark.parametrize('reliability', [ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE])
def test_reliability_follows_the_publishers(desk: Desk, reliability: ReliabilityPolicy) -> None:
    """Publishers that appear after the node."""
    node = desk.start()
    desk.wait_for_log(node, 'active')
    desk.advertise(IMAGES | JOINTS, reliability)
    desk.wait_until_heard()
    send_sets(desk, 0, 5)
    desk.wait(lambda: len(desk.sets()) == 5, 'sets')


def test_incompatible_qos_is_named(desk: Desk) -> None:
    node = desk.start(reliability='reliable', silence_s=1.0)
    desk.advertise(IMAGES | JOINTS, ReliabilityPolicy.BEST_EFFORT)
    desk.wait_for_log(
        node, 'QoS incompatible: the publisher is best effort, but this node subscribes reliable; set reliability'
    )


def test_an_override_that_the_publisher_does_not_offer_is_named(desk: Desk) -> None:
    override = {'qos_overrides./global/image.subscription.durability': 'transient_local'}
    node = desk.start(silence_s=1.0, **override)
    desk.advertise(IMAGES | JOINTS)
    desk.wait_for_log(node, 'Volatile publisher and transient local subscription; change qos_overrides./global/image')


def test_compressed_cameras(desk: Desk) -> None:
    desk.start(image_transport='compressed')
    topics = {f'{topic}/compressed': 'sensor_msgs/msg/CompressedImage' for topic in IMAGES}
    desk.advertise(topics | JOINTS)
    desk.wait_until_heard()
    jpeg = bytes(ros_messages.compressed(0, np.full((48, 64, 3), 120, np.uint8)).data)
    for number, ms in enumerate(range(0, 500, 50)):
        for topic in topics:
            data = jpeg[: len(jpeg) // 2] if number == 4 and 'global' in topic else jpeg
            desk.publishers[topic].publish(CompressedImage(header=header(ms), format='jpeg', data=data))
        desk.publishers['/joint_states'].publish(joint_state(ms))
        wait_for_report(desk, ms)
    assert desk.drops() == {T0 + 200 * 10**6: 'undecodable'}
    assert 'JPEG data is truncated' in desk.processes[0].log


def test_joints_of_another_machine_on_the_topic_are_no_fault(desk: Desk) -> None:
    ready(desk, silence_s=600.0)
    for start_ms in range(0, 500, 50):
        wheels = JointState(header=header(start_ms), name=['wheel_left', 'wheel_right'], position=[1.0, 2.0])
        desk.publishers['/joint_states'].publish(wheels)
        send_sets(desk, start_ms, 1)
    desk.wait(lambda: len(desk.sets()) == 10, 'sets')
    assert 'joint_states:' not in desk.processes[0].log


def test_reset_service(desk: Desk) -> None:
    ready(desk)
    desk.publishers['/global/image'].publish(image(0))
    desk.wait(lambda: desk.diagnostics and desk.status('encoder')[2]['waiting'] == '1', 'the anchor to wait')
    assert call(desk, Trigger, '/fused_encoder/reset', Trigger.Request()).success
    desk.wait(lambda: desk.drops() == {T0: 'clock_jump'}, 'the drop of the waiting anchor')
    send_sets(desk, 50, 3)
    desk.wait(lambda: len(desk.sets()) == 3, 'sets after the reset')


@pytest.mark.parametrize(
    ('parameters', 'says'),
    [
        ({'tolerance_ms': -1.0}, 'on_configure refused: tolerance_ms: -1.0 is too small; use at least 0'),
        ({'threads': 0}, 'threads: 0 is too small'),
        ({'image_size': 'big'}, "image_size: 'big' is not a whole number"),
        ({'anchor': 'head'}, "anchor: 'head' is unknown; use one of"),
        ({'checkpoint': '/nowhere/run_obs_encoder.pth'}, 'checkpoint: /nowhere/run_obs_encoder.pth is not a file'),
        ({'joint_names': '[a, b, a]'}, 'joint_names: name each joint once'),
        ({'joint_mean': '[0.0]'}, 'joint_mean and joint_std go together'),
        ({'horizon_s': 0.1}, 'horizon_s: 0.1 is shorter than'),
        ({'topics__global': '"1st/image"'}, 'topics.global: Invalid topic name'),
        ({'topics__global': '"{camera}/image"'}, 'topics.global: '),
        ({'topics__global': '/left_wrist/image'}, 'topics.global: /left_wrist/image is also the topic of left_wrist'),
        ({'joint_meen': '[0.5, 0.5]'}, 'joint_meen: there is no such parameter; did you mean joint_mean?'),
        ({'joint_names': 5}, 'joint_names: 5 is not a list of names'),
        ({'joint_mean': '[0, 0.5]'}, 'In a list of numbers write 0.0 instead of 0'),
    ],
)
def test_bad_parameters_end_the_node_with_the_fix(desk: Desk, parameters: dict[str, object], says: str) -> None:
    node = desk.start(**parameters)
    desk.wait(lambda: node.process.poll() is not None, 'the node to end')
    assert node.process.returncode == 1 and says in node.log and 'Traceback' not in node.log, node.log


def test_two_sources_remapped_onto_one_topic_are_refused(desk: Desk) -> None:
    node = desk.start_with('--ros-args', '-r', 'left_wrist/image:=/cam', '-r', 'right_wrist/image:=/cam')
    desk.wait(lambda: node.process.poll() is not None, 'the node to end')
    assert node.process.returncode == 1 and '/cam is also the topic of left_wrist' in node.log


def test_missing_parameter_file(desk: Desk) -> None:
    node = desk.start_with('--ros-args', '--params-file', '/nowhere/robot.yaml')
    desk.wait(lambda: node.process.poll() is not None, 'the node to end')
    assert node.process.returncode == 1 and '/nowhere/robot.yaml' in node.log and 'Traceback' not in node.log


def test_a_packed_checkpoint_says_how_it_is_fed(desk: Desk, tmp_path: Path) -> None:
    montages: list[Image] = []
    spec = ObservationSpec(cameras=('global', 'left_wrist', 'right_wrist'), image_size=64)
    write_packed(tmp_path / 'run.safetensors', ImageJointEncoder().eval(), spec)
    ready(desk, checkpoint=tmp_path / 'run.safetensors', image_size=64)
    desk.node.create_subscription(Image, '/fused_encoder/observation', montages.append, 10)
    request = GetParameters.Request(names=['image_size', 'cameras'])
    size, cameras = call(desk, GetParameters, '/fused_encoder/get_parameters', request).values
    assert size.integer_value == 64 and cameras.string_array_value[0] == 'global'
    desk.spin(0.5)
    for value, topic in zip((10, 20, 30), IMAGES):
        desk.publishers[topic].publish(image(0, value))
    desk.publishers['/joint_states'].publish(joint_state(0))
    desk.wait(lambda: montages, 'an observation')
    views = np.frombuffer(montages[-1].data, np.uint8).reshape(64, 3, 64, 3)
    assert [int(views[:, i].max()) for i in range(3)] == [30, 10, 20]
    assert 'contains no observation spec' not in desk.processes[0].log


def test_a_parameter_that_contradicts_the_checkpoint_is_refused(desk: Desk, tmp_path: Path) -> None:
    write_packed(tmp_path / 'run.safetensors', ImageJointEncoder().eval(), ObservationSpec(image_size=64))
    node = desk.start(checkpoint=tmp_path / 'run.safetensors', image_size=84)
    desk.wait(lambda: node.process.poll() is not None, 'the node to end')
    assert node.process.returncode == 1
    assert 'image_size: the parameter is 84, but' in node.log and 'was trained with 64' in node.log


def test_checkpoint_of_the_other_design_is_refused(desk: Desk, tmp_path: Path) -> None:
    torch.save(ThreeStreamEncoder().state_dict(), tmp_path / 'old.pth')
    node = desk.start(checkpoint=tmp_path / 'old.pth', design='single')
    desk.wait(lambda: node.process.poll() is not None, 'the node to end')
    assert node.process.returncode == 1 and 'old.pth holds the three_stream design, but design is single' in node.log


def test_a_lifecycle_manager_can_own_the_node(desk: Desk) -> None:
    node = desk.start(autostart=False, tolerance_ms=99999.0)
    assert state(desk) == 'unconfigured'
    assert not change(desk, Transition.TRANSITION_CONFIGURE) and state(desk) == 'unconfigured'
    assert 'tolerance_ms: 99999.0 is too large; use at most 10000' in node.log
    assert not set_parameter(desk, 'tolerance_ms', -5.0).successful
    misspelled = set_parameter(desk, 'tolerence_ms', 15.0)
    assert not misspelled.successful
    assert misspelled.reason == 'tolerence_ms: there is no such parameter; did you mean tolerance_ms?'
    assert set_parameter(desk, 'tolerance_ms', 15.0).successful
    desk.advertise(IMAGES | JOINTS)
    for round_number in range(3):
        assert change(desk, Transition.TRANSITION_CONFIGURE) and state(desk) == 'inactive'
        refused = set_parameter(desk, 'pixel_divisor', 1.0)
        assert not refused.successful and 'is read when the node is configured' in refused.reason
        assert change(desk, Transition.TRANSITION_ACTIVATE) and state(desk) == 'active'
        desk.wait_until_heard()
        send_sets(desk, 10_000 * round_number, 3)
        desk.wait(lambda: len(desk.sets()) == 3, 'sets')
        assert change(desk, Transition.TRANSITION_DEACTIVATE) and state(desk) == 'inactive'
        assert change(desk, Transition.TRANSITION_CLEANUP) and state(desk) == 'unconfigured'
        desk.reports.clear()
    assert change(desk, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) and state(desk) == 'finalized'
    assert node.stop(signal.SIGTERM) == 0 and 'Traceback' not in node.log


def test_parameters_describe_themselves(desk: Desk) -> None:
    desk.start()
    request = DescribeParameters.Request(names=['tolerance_ms', 'autostart', 'anchor', 'threads'])
    tolerance, autostart, anchor, threads = call(
        desk, DescribeParameters, '/fused_encoder/describe_parameters', request
    ).descriptors
    assert 'skew' in tolerance.description and tolerance.floating_point_range[0].to_value == 10000.0
    assert autostart.read_only and not tolerance.read_only
    assert 'right_wrist' in anchor.additional_constraints and threads.integer_range[0].from_value == 1


def test_the_synchroniser_is_a_message_filter() -> None:
    """Another node can connect it to its own Subscribers."""
    from fused_encoder_ros.pipeline.data import Drop, Observation
    from fused_encoder_ros.pipeline.options import SyncOptions
    from fused_encoder_ros.pipeline.pipeline import Pipeline
    from fused_encoder_ros.ros.filters import ObservationFilter, SimpleFilter, Subscriber
    from fused_encoder_ros.spec import ObservationSpec

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('own_node', context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    pipeline = Pipeline(ObservationSpec(), SyncOptions())
    inputs = {c: Subscriber(node, Image, f'own/{c}', qos_profile=10) for c in CAMERAS}
    inputs['joint_states'] = Subscriber(node, JointState, 'own/joint_states', qos_profile=10)
    observations: list[tuple[Observation, str]] = []
    outcomes: list[object] = []
    synchroniser = ObservationFilter(pipeline, inputs)
    assert isinstance(synchroniser, SimpleFilter)
    synchroniser.registerCallback(lambda observation, tag: observations.append((observation, tag)), 'tag')
    synchroniser.register_outcome_callback(outcomes.append)
    publishers = {c: node.create_publisher(Image, f'own/{c}', 10) for c in CAMERAS}
    publishers['joint_states'] = node.create_publisher(JointState, 'own/joint_states', 10)
    for _ in range(400):
        executor.spin_once(timeout_sec=0.05)
        if all(p.get_subscription_count() for p in publishers.values()):
            break
    publishers['global'].publish(image(-1))
    for source, publisher in publishers.items():
        publisher.publish(joint_state(5) if source == 'joint_states' else image(5))
    for _ in range(400):
        executor.spin_once(timeout_sec=0.05)
        if observations:
            break
    ((observation, tag),) = observations
    assert tag == 'tag' and observation.stamp_ns == T0 + 5 * 10**6 and observation.images.shape == (84, 84, 9)
    assert [type(outcome) for outcome in outcomes] == [Drop, Observation]
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_a_fault_in_a_callback_costs_no_other_set() -> None:
    """Two sets that one message completes: the callback fails on the first and still gets the second, and later ones."""
    from fused_encoder_ros.pipeline.data import Observation
    from fused_encoder_ros.pipeline.options import SyncOptions
    from fused_encoder_ros.pipeline.pipeline import Pipeline
    from fused_encoder_ros.ros.filters import ObservationFilter, SimpleFilter
    from fused_encoder_ros.spec import ObservationSpec

    inputs = {source: SimpleFilter() for source in (*CAMERAS, 'joint_states')}
    seen: list[int] = []

    def on_observation(observation: Observation) -> None:
        seen.append((observation.stamp_ns - T0) // 10**6)
        if len(seen) == 1:
            raise RuntimeError('a fault in the callback')

    ObservationFilter(Pipeline(ObservationSpec(), SyncOptions()), inputs).registerCallback(on_observation)
    inputs['joint_states'].signalMessage(joint_state(1))
    for ms in (5, 38, 71):
        for camera in CAMERAS:
            inputs[camera].signalMessage(image(ms))
    with pytest.raises(RuntimeError, match='a fault in the callback'):
        inputs['joint_states'].signalMessage(joint_state(40))
    assert seen == [5, 38]
    inputs['joint_states'].signalMessage(joint_state(72))
    assert seen == [5, 38, 71]
