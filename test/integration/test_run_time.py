"""Parameters that change while the node runs, and a node that is configured and cleaned up again and again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
import torch
from lifecycle_msgs.msg import Transition
from live import Desk, call, change, set_parameter, state
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from robot import IMAGES, JOINTS, image, joint_state, ready, send_sets, wait_for_report
from std_srvs.srv import Trigger

from fused_encoder_ros.model import ImageJointEncoder
from fused_encoder_ros.model.packed_checkpoint import write_packed
from fused_encoder_ros.ros.monitor import ArrivalClock
from fused_encoder_ros.ros.node import FusedEncoderNode
from fused_encoder_ros.spec import ObservationSpec


def test_a_new_tolerance_counts_from_the_next_set_on(desk: Desk) -> None:
    ready(desk)
    send_sets(desk, 0, 3)
    assert set_parameter(desk, 'tolerance_ms', 5.0).successful

    def send_off_by_ten(ms: int) -> None:
        for topic in IMAGES:
            desk.publishers[topic].publish(image(ms + 10 if 'left' in topic else ms))
        desk.publishers['/joint_states'].publish(joint_state(ms))
        wait_for_report(desk, ms)

    send_off_by_ten(1000)
    assert list(desk.drops().values()) == ['no_match:left_wrist']
    assert desk.reports[-1]['detail'].endswith('tolerance_ms is 5')
    assert set_parameter(desk, 'tolerance_ms', 15.0).successful
    send_off_by_ten(1200)
    assert len(desk.sets()) == 4 and len(desk.drops()) == 1


@pytest.mark.parametrize('active', [False, True])
def test_what_cannot_change_now_is_refused_with_the_way(desk: Desk, active: bool) -> None:
    node = desk.start(autostart=active)
    if active:
        desk.wait_for_log(node, 'active;')
    else:
        assert change(desk, Transition.TRANSITION_CONFIGURE)
    refused = set_parameter(desk, 'pixel_divisor', 1.0)
    assert not refused.successful and 'pixel_divisor is read when the node is configured; clean the node up' in refused.reason
    refused = set_parameter(desk, 'horizon_s', 0.1)
    assert not refused.successful and refused.reason.startswith('horizon_s: 0.1 is shorter than tolerance_ms')
    assert set_parameter(desk, 'max_wait_ms', 80.0).successful and set_parameter(desk, 'joint_max_age_ms', 50.0).successful
    assert set_parameter(desk, 'horizon_s', 0.1).successful
    text = Parameter(name='match', value=ParameterValue(type=ParameterType.PARAMETER_STRING, string_value='latest'))
    request = SetParameters.Request(parameters=[text])
    (refused,) = call(desk, SetParameters, '/fused_encoder/set_parameters', request).results
    assert not refused.successful and refused.reason.startswith("match: 'latest' is unknown; use one of")


def test_a_new_checkpoint_by_cleanup_and_configure(desk: Desk, tmp_path: Path) -> None:
    checkpoint = tmp_path / 'encoder.pth'
    hashes = []
    desk.start(autostart=False, checkpoint=checkpoint)
    desk.advertise(IMAGES | JOINTS)
    for seed in range(2):
        torch.manual_seed(seed)
        torch.save(ImageJointEncoder(fusion_dim=32).state_dict(), checkpoint)
        assert change(desk, Transition.TRANSITION_CONFIGURE) and change(desk, Transition.TRANSITION_ACTIVATE)
        desk.wait_until_heard()
        send_sets(desk, 1000 * seed, 2)
        desk.wait(lambda: len(desk.stamped) == 2, 'features')
        hashes.append(desk.stamped[-1].header.frame_id)
        desk.stamped.clear()
        assert change(desk, Transition.TRANSITION_DEACTIVATE) and change(desk, Transition.TRANSITION_CLEANUP)
    assert len(set(hashes)) == 2
    checkpoint.write_bytes(b'not a checkpoint')
    assert not change(desk, Transition.TRANSITION_CONFIGURE) and state(desk) == 'unconfigured'
    checkpoint.unlink()
    assert not change(desk, Transition.TRANSITION_CONFIGURE) and state(desk) == 'unconfigured'


def test_a_refused_activation_leaves_the_node_inactive(desk: Desk) -> None:
    override = 'qos_overrides./left_wrist/image.subscription.depth:=0'
    node = desk.start_with('--ros-args', '-p', 'autostart:=false', '-p', override.replace('depth:=0', 'depht:=5'))
    assert change(desk, Transition.TRANSITION_CONFIGURE)
    for _ in range(2):
        assert not change(desk, Transition.TRANSITION_ACTIVATE) and state(desk) == 'inactive'
    assert 'on_activate refused: qos_overrides./left_wrist/image.subscription.depht' in node.log
    assert change(desk, Transition.TRANSITION_CLEANUP) and state(desk) == 'unconfigured'
    assert change(desk, Transition.TRANSITION_CONFIGURE)


def test_what_cannot_be_done_is_answered_and_the_node_lives(desk: Desk) -> None:
    node = desk.start(autostart=False)
    assert not change(desk, Transition.TRANSITION_ACTIVATE) and state(desk) == 'unconfigured'
    assert 'there is no transition 3 from unconfigured; use one of: configure, shutdown' in node.log
    unknown_type = Parameter(name='tolerance_ms', value=ParameterValue(type=77))
    call(desk, SetParameters, '/fused_encoder/set_parameters', SetParameters.Request(parameters=[unknown_type]))
    assert 'set_parameters refused: 77 is not a valid' in node.log
    reset = call(desk, Trigger, '/fused_encoder/reset', Trigger.Request())
    assert not reset.success and 'the node is not active' in reset.message
    assert change(desk, Transition.TRANSITION_CONFIGURE) and node.stop() == 0 and 'Traceback' not in node.log


def test_qos_of_an_output_that_does_not_exist_is_refused(desk: Desk) -> None:
    node = desk.start(**{'qos_overrides./fused_encoder/sets.publisher.reliability': 'some'})
    desk.wait(lambda: node.process.poll() is not None, 'the node to end')
    assert 'on_configure refused: qos_overrides./fused_encoder/sets: ' in node.log and 'Traceback' not in node.log


def test_the_latency_is_that_of_the_frame_that_was_used() -> None:
    """A late duplicate is refused; after a reset a frame of the same stamp comes and is used."""
    clock = ArrivalClock()
    clock.arrived(7, 100, 7)
    clock.refused(7)
    clock.arrived(7, 500, 7)
    clock.arrived(7, 600, 7)
    clock.refused(7)
    arrival = clock.forget(7)
    assert arrival is not None and arrival.arrived_ns == 500


@pytest.fixture
def node() -> Iterator[FusedEncoderNode]:
    context = rclpy.Context()
    rclpy.init(context=context)
    overrides = [RosParameter('engine', value='eager'), RosParameter('design', value='single')]
    node = FusedEncoderNode(context=context, parameter_overrides=overrides)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    node.spin = lambda: executor.spin_once(timeout_sec=0.01)
    yield node
    node.destroy_node()
    executor.shutdown()
    rclpy.shutdown(context=context)


def test_cameras_and_a_topic_that_goes_with_them_are_refused_together(node: FusedEncoderNode) -> None:
    asked = [RosParameter('cameras', value=['front']), RosParameter('topics.global', value='/x')]
    refused = node.set_parameters_atomically(asked)
    assert not refused.successful and 'topics.global: there is no camera global' in refused.reason
    assert node.get_parameter('topics.global').value == 'global/image' and not node.has_parameter('topics.front')


def test_another_checkpoint_under_the_same_path_brings_its_cameras(node: FusedEncoderNode, tmp_path: Path) -> None:
    path = tmp_path / 'run.safetensors'
    for cameras in (('left_wrist', 'right_wrist', 'global'), ('front', 'top')):
        encoder = ImageJointEncoder(fusion_dim=32, camera_count=len(cameras)).eval()
        write_packed(path, encoder, ObservationSpec(cameras=cameras))
        if not node.get_parameter('checkpoint').value:
            node.set_parameters([RosParameter('checkpoint', value=str(path))])
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert tuple(node.get_parameter('cameras').value) == cameras
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS


def test_cycles_of_the_lifecycle_leave_nothing_behind(node: FusedEncoderNode) -> None:
    """`benchmarks/lifecycle.py` does it a hundred times and measures the memory."""

    def cycle() -> tuple[int, ...]:
        for transition in (node.trigger_configure, node.trigger_activate):
            assert transition() == TransitionCallbackReturn.SUCCESS
        for _ in range(10):
            node.spin()
        for transition in (node.trigger_deactivate, node.trigger_cleanup):
            assert transition() == TransitionCallbackReturn.SUCCESS
        for _ in range(10):
            node.spin()  # what was destroyed goes with the next turn
        entities = (node.subscriptions, node.publishers, node.services, node.timers, node.waitables)
        return (len(os.listdir('/proc/self/fd')), threading.active_count(), *(len(list(group)) for group in entities))

    cycle()
    first = cycle()
    assert [cycle() for _ in range(5)] == [first] * 5
