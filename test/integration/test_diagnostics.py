"""What a person sees of a running node: levels, causes and figures, and what they do when trouble passes."""

from __future__ import annotations

import re
import signal

import pytest
from live import Desk, LiveProcess
from rclpy.qos import QoSProfile, ReliabilityPolicy
from robot import CAMERAS, IMAGES, JOINTS, STILL, Robot, image, joint_state, ns, ready, send_sets, wait_for_report
from sensor_msgs.msg import Image

from fused_encoder_ros.pipeline.outputs import STAGES

OK, WARN, ERROR = 0, 1, 2


def test_before_the_first_message_nothing_is_made_up(desk: Desk) -> None:
    desk.start(silence_s=60.0)
    desk.wait(lambda: desk.diagnostics, 'diagnostics')
    _, _, values = desk.status('left_wrist')
    unknown = ('rate_hz', 'jitter_ms', 'age_s', 'bytes_per_s', 'content', 'still_s')
    assert [values[name] for name in unknown] == ['n/a'] * 6 and values['messages'] == '0'
    _, _, values = desk.status('encoder')
    assert values['latency_ms: total p95'] == values['recent_drop_share'] == values['device_memory_mib'] == 'n/a'
    assert float(values['memory_mib']) > 50


def test_figures_of_the_inputs(desk: Desk) -> None:
    ready(desk)
    send_sets(desk, 0, 20)
    desk.wait(lambda: desk.status('global')[2]['messages'] == '20', 'diagnostics')
    code, message, values = desk.status('global')
    assert (code, message) == (OK, 'receiving')
    assert values['content'] == 'rgb8 32×24' and values['publishers'] == '1' and values['lost'] == '0'
    rate, size = float(values['rate_hz']), 32 * 24 * 3
    assert float(values['bytes_per_s']) / size / rate > 0.99 and float(values['jitter_ms']) >= 0


def test_a_level_holds_until_the_trouble_has_been_over_for_a_while(desk: Desk) -> None:
    ready(desk, silence_s=1.0, diagnostics__hold_s=2.0, **STILL)
    send_sets(desk, 0, 5)
    desk.wait(lambda: desk.status('global')[0] == ERROR, 'an ERROR once the cameras are silent')
    assert '0 messages in' in desk.status('global')[1]
    send_sets(desk, 1000, 5)
    seen = len(desk.diagnostics)
    ms = 2000
    while desk.status('global')[0] == ERROR:
        send_sets(desk, ms, 1)
        desk.spin(0.05)
        ms += 50
        assert ms < 60_000, 'the level never went down'
    messages = [s.message for array in desk.diagnostics[seen:] for s in array.status if s.name.endswith(': global')]
    assert any(message.startswith('recovering from: /global/image: 0 messages') for message in messages)
    assert messages[-1] == 'receiving'


def test_thresholds_are_parameters(desk: Desk) -> None:
    limits = {'min_camera_rate_hz': 1000.0, 'min_joint_rate_hz': 1e5, 'max_latency_ms': 0.001}
    ready(desk, **{f'diagnostics__{name}': value for name, value in limits.items()})
    for ms in range(0, 60_000, 50):  # on and on: what falls silent is no longer slow
        send_sets(desk, ms, 1)
        if desk.status('left_wrist')[0] == desk.status('encoder')[0] == WARN:
            break
    assert 'is below diagnostics.min_camera_rate_hz' in desk.status('left_wrist')[1]
    assert 'is below diagnostics.min_joint_rate_hz' in desk.status('joint_states')[1]
    assert 'is above diagnostics.max_latency_ms' in desk.status('encoder')[1]


def test_a_picture_that_stays_the_same_under_new_stamps_is_a_warning(desk: Desk) -> None:
    """A driver that has lost its camera may send the last image again and again."""
    ready(desk, diagnostics__max_still_s=1.0, diagnostics__hold_s=0.0)

    def send(ms: int, frozen: str = '') -> None:
        for topic in IMAGES:
            desk.publishers[topic].publish(image(ms, 90 if topic == frozen else ms // 50 % 200))
        desk.publishers['/joint_states'].publish(joint_state(ms))
        wait_for_report(desk, ms)

    for ms in range(0, 1500, 50):
        send(ms, frozen='/left_wrist/image')
    desk.wait(lambda: desk.status('left_wrist')[2]['still_s'] == '1.450', 'the last picture to be seen')
    code, message, _ = desk.status('left_wrist')
    assert code == WARN and message.startswith('the picture has been the same, bit for bit, for 1.4')
    assert desk.status('right_wrist')[0] == OK and desk.status('joint_states')[2]['still_s'] == 'n/a'
    send(1500)
    desk.wait(lambda: desk.status('left_wrist')[:2] == (OK, 'receiving'), 'all well again')


def test_many_drops_are_a_warning_with_the_last_cause(desk: Desk) -> None:
    ready(desk, silence_s=600.0)
    send_sets(desk, 0, 10)
    ms = 1000
    while 'of the last anchor frames gave no set' not in desk.status('encoder')[1]:
        for topic in IMAGES:
            desk.publishers[topic].publish(image(ms - 25 if 'left' in topic else ms))  # as far off as can be
        desk.publishers['/joint_states'].publish(joint_state(ms))
        desk.spin(0.05)
        ms += 50
        assert ms < 60_000, 'no WARN'
    code, message, values = desk.status('encoder')
    assert code == WARN and 'the nearest left_wrist frame is 25.0 ms from the anchor; tolerance_ms is 20' in message
    assert values['dropped: no_match:left_wrist'] == desk.status('left_wrist')[2]['anchors_dropped'] != '0'


def warnings(node: LiveProcess) -> list[str]:
    return [line for line in node.log.splitlines() if re.match(r'\[(WARN|ERROR|FATAL)\]', line)]


def large_image(ms: float) -> Image:
    return image(ms, height=480, width=640, step=1920, data=bytes([90]) * (480 * 1920))


@pytest.mark.parametrize('first', ['node', 'robot'])
def test_a_healthy_start_warns_of_the_random_weights_alone(desk_with_usual_buffers: Desk, first: str) -> None:
    """Beside reliable publishers: until each subscription has changed over to reliable, images get lost."""
    desk = desk_with_usual_buffers
    if first == 'node':
        node = desk.start(silence_s=60.0)
        desk.wait_for_log(node, 'active')
        desk.wait_for_outputs()
        robot = Robot(desk)
    else:
        robot = Robot(desk)
        node = desk.start(silence_s=60.0)
    robot.senders['/left_wrist/image'] = lambda ms: [large_image(ms)]
    burst = desk.publishers['/left_wrist/image']
    robot.run_until(burst.get_subscription_count, 'the node')
    for later in range(20):
        burst.publish(large_image(robot.ms + later))
    robot.run_until(lambda: len(desk.sets()) >= 60 and desk.diagnostics, 'sets, past the time in which no loss counts')
    assert len(warnings(node)) == 1 and 'RANDOM weights' in warnings(node)[0], node.log
    assert all(desk.status(camera)[2]['lost'] == '0' for camera in CAMERAS)


@pytest.mark.parametrize(
    ('qos', 'says'),
    [
        (QoSProfile(depth=1), "newer messages replaced them in the publisher's queue; increase the QoS depth"),
        (
            QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
            'the publisher is best effort; make it reliable, or start it and this node with config/fastdds_large_images.xml',
        ),
    ],
    ids=['reliable', 'best effort'],
)
def test_messages_that_get_lost_on_the_way_are_blamed_on_the_publisher(desk: Desk, qos: QoSProfile, says: str) -> None:
    """It sends large images in bursts."""
    desk.start(silence_s=60.0)
    robot = Robot(desk)
    robot.unplug('/global/image')
    desk.publishers['/global/image'] = desk.node.create_publisher(Image, '/global/image', qos)
    robot.senders['/global/image'] = lambda ms: [large_image(ms + later) for later in range(20)]
    robot.run_until(lambda: any('global: the middleware lost' in line and says in line for line in warnings(robot.node)), says)
    robot.run_until_input('global', WARN, 'the middleware lost')


def test_messages_that_get_lost_while_the_node_stands_still_are_blamed_on_it(desk: Desk) -> None:
    """A machine that is overloaded or suspended."""
    node = desk.start(silence_s=60.0)
    robot = Robot(desk)
    robot.senders['/global/image'] = lambda ms: [large_image(ms)]
    robot.run_until(lambda: desk.sets(), 'a set')

    def told() -> bool:
        node.process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(60):  # more than its publisher keeps
                robot.step()
        finally:
            node.process.send_signal(signal.SIGCONT)
        # Until the middleware has sent again what it still has, which takes seconds on a busy machine.
        for _ in range(200):
            robot.step()
            if any('global: the middleware lost' in line and 'this process did not run' in line for line in warnings(node)):
                return True
        return False

    robot.run_until(told, 'a WARN')


def test_messages_that_are_overwritten_in_the_queue_of_the_node_are_counted(desk: Desk) -> None:
    """They come in bursts, as from a Wi-Fi link that stalls; nothing else tells that the node never saw them."""
    node = desk.start(image_depth=2, silence_s=600.0, **STILL)
    robot = Robot(desk)
    desk.wait_until_heard()
    sent = 0

    def burst(ms: float) -> list[Image]:
        nonlocal sent
        sent += 20
        return [image(ms + later) for later in range(20)]

    robot.senders['/global/image'] = burst
    robot.run_until_log('increase image_depth (now 2), or reduce the load')
    robot.run_until_input('global', WARN, 'the queue of this node overwrote')

    def counts() -> dict[str, int]:
        """When everything that was sent has been taken, and counted: a second after the last."""
        desk.diagnostics.clear()
        desk.wait(lambda: float(desk.status('global')[2]['age_s'] or 0) > 1.5, 'diagnostics')
        return {name: int(desk.status('global')[2][name]) for name in ('messages', 'lost', 'overwritten')}

    before, sent = counts(), 0
    for _ in range(20):
        robot.step()
    gained = {name: count - before[name] for name, count in counts().items()}
    assert gained['overwritten'] > 0 and sum(gained.values()) == sent == 400
    assert desk.status('left_wrist')[2]['overwritten'] == '0'
    assert any('global: in the queue of this node, newer messages replaced' in line for line in warnings(node))


def test_a_second_encoder_on_the_same_topics_is_told(desk: Desk) -> None:
    desk.start()
    desk.start()
    desk.wait(lambda: '2 nodes publish features on the same topic' in desk.status('encoder')[1], 'a WARN')


def test_a_frame_sent_twice_costs_the_set_none_of_its_latencies(desk: Desk) -> None:
    ready(desk)
    send_sets(desk, 0, 2)
    for ms in range(1000, 1500, 50):
        for _ in range(2):
            desk.publishers['/global/image'].publish(image(ms))
        desk.spin(0.02)
        for topic in ('/left_wrist/image', '/right_wrist/image'):
            desk.publishers[topic].publish(image(ms))
        desk.publishers['/joint_states'].publish(joint_state(ms))
        desk.wait(lambda: sum(r['stamp_ns'] == ns(ms) for r in desk.reports) == 2, f'set and drop of {ms} ms')  # noqa: B023
    assert len(desk.sets()) == 12 and [r['drop'] for r in desk.reports if 'drop' in r] == ['bad_stamp'] * 10
    assert all(set(report['latency_ms']) == set(STAGES) for report in desk.sets().values())


def test_qos_overrides_of_one_topic(desk: Desk) -> None:
    prefix = 'qos_overrides./left_wrist/image.subscription'
    node = desk.start_with('--ros-args', '-p', f'{prefix}.reliability:=best_effort', '-p', f'{prefix}.depth:=7')
    desk.wait_for_log(node, 'active')
    desk.advertise(IMAGES | JOINTS, ReliabilityPolicy.RELIABLE)
    desk.wait_for_outputs()
    desk.wait(lambda: desk.status('global')[2]['reliability'] == 'reliable', 'auto to follow')
    assert desk.status('left_wrist')[2]['reliability'] == 'best_effort'
    (subscription,) = desk.node.get_subscriptions_info_by_topic('/left_wrist/image')
    assert subscription.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


def test_a_bad_qos_override_is_named(desk: Desk) -> None:
    prefix = 'qos_overrides./left_wrist/image.subscription'
    for parameter, says in (
        ('reliability:=often', 'qos_overrides./left_wrist/image: Unexpected QoS override'),
        ('reliabilty:=reliable', f'{prefix}.reliabilty: there is no such policy'),
    ):
        node = desk.start_with('--ros-args', '-p', f'{prefix}.{parameter}')
        assert node.process.wait(30) == 1 and says in node.log, node.log
