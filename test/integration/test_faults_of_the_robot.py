"""One node beside a robot that breaks in every way: each fault is named where a user looks, and the node comes back by itself.

All tests share the node: what it went through before must not show.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from live import Desk, stamp_ns
from mutated import Mutator, cdr
from robot import CAMERAS, IMAGES, PERIOD_MS, STILL, Robot, Sender, image, joint_state, ns
from sensor_msgs.msg import Image, JointState

from fused_encoder_ros.spec import DEFAULT_JOINT_NAMES

HOUR_MS = 3_600_000


@pytest.fixture(scope='module')
def node_and_robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    desk = Desk(tmp_path_factory.mktemp('faults'))
    desk.start(silence_s=1.0, diagnostics__hold_s=0.0, **STILL)
    robot = Robot(desk)
    desk.wait_until_heard()
    robot.assert_recovers()
    yield robot
    assert robot.node.stop() == 0 and 'Traceback' not in robot.node.log, robot.node.log
    desk.close()


@pytest.fixture
def robot(node_and_robot: Robot) -> Robot:
    """It works, and what the node says from now on is looked at."""
    node_and_robot.repair()
    node_and_robot.mark()
    return node_and_robot


@pytest.mark.parametrize('camera', ['left_wrist', 'global'])
def test_a_camera_is_unplugged_and_plugged_in_again(robot: Robot, camera: str) -> None:
    topic = f'/{camera}/image'
    robot.unplug(topic)
    robot.run_until_input(camera, 2, f'{topic}: 0 messages in')
    robot.run_until_log(f'publisher(s), nobody publishes it: start the driver, or set topics.{camera}')
    (line,) = [line for line in robot.log.splitlines() if 'nobody publishes it' in line]
    assert 'no set for' in line and line.count('0 messages in') == 1
    # Without its anchor nothing is asked for; without a follower every anchor says which.
    drops = {report['drop'] for report in robot.reports if 'drop' in report}
    assert drops == (set() if camera == 'global' else {f'no_match:{camera}'})
    robot.plug_in(topic)
    robot.run_until_log('sets are coming again')
    robot.assert_recovers()


def test_a_camera_hangs(robot: Robot) -> None:
    """Its driver is there and sends nothing."""
    robot.senders['/right_wrist/image'] = lambda ms: []
    robot.run_until_input('right_wrist', 2, '/right_wrist/image: 0 messages in')
    assert robot.desk.status('right_wrist')[1].endswith('1 publisher(s)')
    robot.run_until_drop('no_match:right_wrist', 'the nearest right_wrist frame is')
    robot.assert_recovers()


def test_a_camera_changes_resolution_and_encoding(robot: Robot) -> None:
    """The same picture in another form is the same picture, and the change is told."""
    small = bytes((200, 100, 30)) * 32 * 24
    large = {'height': 48, 'width': 64, 'encoding': 'bgr8', 'step': 192, 'data': bytes((30, 100, 200)) * 64 * 48}
    features = []
    for changes in ({'data': small}, large):
        robot.mark()
        robot.senders['/global/image'] = lambda ms, changes=changes: [image(ms, **changes)]
        robot.run_until(lambda: len(robot.reports_of_sets()) >= 5, 'sets')
        features.append(bytes(robot.desk.stamped[-1].data))
    robot.run_until_log('global: images are now bgr8 64×48; before, they were rgb8 32×24')
    assert features[0] == features[1]
    robot.run_until(
        lambda: any(values['content'] == 'bgr8 64×48' for _, _, values in robot.desk.statuses('global')),
        'the form in diagnostics',
    )
    robot.assert_recovers()
    assert bytes(robot.desk.stamped[-1].data) != features[0]


@pytest.mark.parametrize('camera', ['left_wrist', 'global'])
def test_a_camera_sends_garbage(robot: Robot, camera: str) -> None:
    """Images whose size is a lie, of no encoding, without data; then bytes that are no message at all."""
    lies = [{'encoding': 'hsv9'}, {'data': b''}, {'height': 0}, {'height': 2**31, 'width': 2**31, 'step': 0}, {'step': 1}]
    random_bytes = random.Random(4)
    robot.senders[f'/{camera}/image'] = lambda ms: [image(ms, **lies[int(ms / PERIOD_MS) % len(lies)])]
    robot.run_until_input(camera, 1, '')
    robot.run_until_log(f'{camera}: ')
    robot.run_until_drop('undecodable' if camera == 'global' else f'no_match:{camera}', '')
    robot.senders[f'/{camera}/image'] = lambda ms: [random_bytes.randbytes(4 + random_bytes.randrange(3000))]
    for _ in range(20):
        robot.step()
    robot.assert_recovers()


def test_joints_are_garbage(robot: Robot) -> None:
    robot.senders['/joint_states'] = lambda ms: [JointState(header=joint_state(ms).header, name=joint_state(ms).name)]
    robot.run_until_input('joint_states', 1, '16 names but 0 positions')
    robot.run_until_drop('no_joints', 'every joint')
    robot.senders['/joint_states'] = lambda ms: [b'\x00\x01\x00\x00' + b'\xff' * 400]
    for _ in range(20):
        robot.step()
    robot.assert_recovers()


def test_mutated_messages_between_good_sets(robot: Robot) -> None:
    """On every topic at once, well-formed for DDS: the node lives and counts, and then a good set's feature is as before."""
    robot.run_until(lambda: len(robot.reports_of_sets()) >= 3, 'sets')
    before = bytes(robot.desk.stamped[-1].data)
    mutator = Mutator(random.Random(6), DEFAULT_JOINT_NAMES, compressed=0.0)

    def beside(source: str, good: Sender) -> Sender:
        return lambda ms: [cdr(mutator.message(source, ns(ms))), *good(ms)]

    for topic, good in robot.senders.items():
        robot.senders[topic] = beside(topic[1:].removesuffix('/image'), good)
    for _ in range(40):
        robot.step()
    robot.run_until(lambda: {'undecodable', 'bad_stamp'} <= {report.get('drop') for report in robot.reports}, 'drops')
    robot.assert_recovers()
    assert bytes(robot.desk.stamped[-1].data) == before


def test_a_camera_doubles_its_rate(robot: Robot) -> None:
    """A follower: nobody minds. The anchor: frames that no follower has a frame for are dropped, and say so."""
    robot.senders['/left_wrist/image'] = lambda ms: [image(ms), image(ms + PERIOD_MS / 2)]
    robot.run_until(lambda: len(robot.reports) >= 10, 'reports')
    assert not [report for report in robot.reports if report.get('drop') not in (None, 'superseded')]
    robot.repair()
    robot.senders['/global/image'] = lambda ms: [image(ms), image(ms + PERIOD_MS / 2)]
    robot.run_until_drop('no_match:left_wrist', 'the nearest left_wrist frame is 25.0 ms from the anchor')
    robot.assert_recovers()


def test_a_second_publisher_on_a_camera_topic(robot: Robot) -> None:
    """Two drivers, or another robot in the same domain: frames of both would make sets."""
    other = robot.desk.node.create_publisher(Image, '/left_wrist/image', 50)
    robot.run_until_input('left_wrist', 1, '2 publishers')
    robot.run_until_log('/left_wrist/image has 2 publishers (two cameras')
    robot.desk.node.destroy_publisher(other)
    robot.run_until_log('/left_wrist/image no longer has a second publisher')
    robot.assert_recovers()


@pytest.mark.parametrize('back_at_once', [True, False])
def test_the_clock_of_the_robot_jumps_forth_and_back(robot: Robot, back_at_once: bool) -> None:
    """Set an hour ahead, for one frame or for a while, and set right."""
    robot.ms += HOUR_MS
    ahead = ns(robot.ms)
    if back_at_once:
        robot.step()
    else:
        robot.run_until(lambda: len([stamp for stamp in robot.reports_of_sets() if stamp >= ahead]) >= 5, 'sets')
    robot.ms -= HOUR_MS
    robot.assert_recovers()
    skews = [report['skew_ms'] for report in robot.desk.reports if 'drop' not in report]
    assert max(abs(skew) for skews_of_set in skews for skew in skews_of_set.values()) <= 100.0


@pytest.mark.parametrize('camera', ['left_wrist', 'global'])
def test_the_clock_of_one_camera_jumps_forth_and_back(robot: Robot, camera: str) -> None:
    robot.senders[f'/{camera}/image'] = lambda ms: [image(ms + HOUR_MS)]
    blamed = 'left_wrist'  # the first follower, when it is the anchor that is alone
    robot.run_until_drop(f'no_match:{blamed}', '')
    robot.run_until_log('no set for')
    robot.assert_recovers()


def test_subscribers_come_and_go(robot: Robot) -> None:
    """At every output, in the middle of sets; whoever listens all the while misses nothing."""
    outputs = {'observation': Image, 'fused_feature_stamped': Image}
    for _ in range(5):
        heard: list[Image] = []
        listeners = [
            robot.desk.node.create_subscription(kind, f'/fused_encoder/{name}', heard.append, 10)
            for name, kind in outputs.items()
        ]
        robot.run_until(lambda: {m.encoding for m in heard} == {'rgb8', '32FC1'}, 'both outputs')  # noqa: B023
        for listener in listeners:
            robot.desk.node.destroy_subscription(listener)
    robot.assert_recovers()
    stamps = {stamp_ns(message) for message in robot.desk.stamped}
    assert stamps == {report['stamp_ns'] for report in robot.desk.reports if 'drop' not in report}


def test_every_camera_at_once(robot: Robot) -> None:
    """The hub that they hang on lost power."""
    for topic in IMAGES:
        robot.unplug(topic)
    for camera in CAMERAS:
        robot.run_until_input(camera, 2, '0 publisher(s)')
    for topic in IMAGES:
        robot.plug_in(topic)
    robot.assert_recovers()
