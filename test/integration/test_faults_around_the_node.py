"""What happens to the processes: one is too slow, is frozen, is killed and started again, or its clock loops."""

from __future__ import annotations

import signal

import pytest
from live import Desk, stamp_ns
from robot import PERIOD_MS, STILL, Robot, assert_accounted_for, header, ns
from rosgraph_msgs.msg import Clock


def test_a_slow_encoder_keeps_no_queue(desk: Desk) -> None:
    """A few sets a second, of twenty that are asked for: the newest is encoded, and the losers are counted."""
    desk.start(image_size=640, engine='eager', threads=1, **STILL)
    robot = Robot(desk)
    desk.wait_until_heard()
    robot.run_until(lambda: len(desk.sets()) >= 4 and len(desk.drops()) >= 4, 'sets and losers')
    last = ns(robot.ms - PERIOD_MS)
    desk.wait(lambda: last in desk.sets(), 'the last set')
    assert_accounted_for(desk)
    assert set(desk.drops().values()) == {'superseded'}
    details = {report['detail'] for report in desk.reports if 'drop' in report}
    assert details == {'a newer set was complete before the encoder was free for this one'}
    assert list(desk.sets()) == sorted(desk.sets()) == [stamp_ns(message) for message in desk.stamped]
    # One being encoded, one in the slot; the rest is a burst of what DDS had queued, at most image_depth.
    assert max(int(values['waiting']) for _, _, values in desk.statuses('encoder')) <= 7


def test_the_node_sleeps_meanwhile(desk: Desk) -> None:
    """As on a laptop that is closed: what came meanwhile is lost in the queues of DDS, and what comes then is taken."""
    node = desk.start(diagnostics__hold_s=0.0, **STILL)
    robot = Robot(desk)
    desk.wait_until_heard()
    robot.assert_recovers()
    node.process.send_signal(signal.SIGSTOP)
    for _ in range(40):
        robot.step()
    node.process.send_signal(signal.SIGCONT)
    robot.assert_recovers()


def test_a_frozen_robot_thaws(desk: Desk) -> None:
    node = desk.start(silence_s=1.0)
    desk.wait_for_outputs()
    rig = desk.start('rig', width=160, height=120, joint_rate_hz=500, wait_for_listeners_s=20.0)
    desk.wait(lambda: len(desk.sets()) >= 5, 'sets')
    rig.process.send_signal(signal.SIGSTOP)
    for source in ('left_wrist', 'right_wrist', 'global', 'joint_states'):
        desk.wait(lambda: desk.status(source)[0] == 2 and '0 messages in' in desk.status(source)[1], f'{source} to be silent')  # noqa: B023
    desk.wait_for_log(node, '/global/image: 0 messages in')
    rig.process.send_signal(signal.SIGCONT)
    desk.wait_for_log(node, 'sets are coming again')
    newest = max(desk.sets())
    desk.wait(lambda: max(desk.sets()) > newest + 10**9, 'sets of the time after')
    assert rig.stop() == 0
    assert_accounted_for(desk)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_the_node_restarts_beside_a_running_robot(desk: Desk, number: int) -> None:
    """Asked to end, or killed without a chance to say goodbye, and started again."""
    node = desk.start(**STILL)
    robot = Robot(desk)
    desk.wait_until_heard()
    robot.run_until(lambda: len(desk.sets()) >= 3, 'sets')
    assert node.stop(number) == (0 if number == signal.SIGINT else -number)
    node = desk.start(**STILL)
    robot.run_until(lambda: 'active' in node.log, 'the node to be back')
    restarted = robot.ms
    robot.run_until(lambda: len([s for s in desk.sets() if s >= ns(restarted)]) >= 5, 'sets of the new node')
    desk.diagnostics.clear()
    desk.wait(lambda: desk.diagnostics, 'diagnostics')
    values = desk.status('encoder')[2]
    drops = sum(int(count) for name, count in values.items() if name.startswith('dropped: '))
    assert int(values['anchors']) == int(values['sets']) + drops + int(values['waiting'])


def test_the_robot_restarts_beside_a_running_node(desk: Desk) -> None:
    """Its drivers are killed; as long as DDS believes them alive the new ones look like seconds, and the log says so."""
    node = desk.start(silence_s=1.0)
    desk.wait_for_outputs()
    small = {'width': 64, 'height': 48, 'wait_for_listeners_s': 20.0}
    rig = desk.start('rig', **small)
    desk.wait(lambda: len(desk.sets()) >= 5, 'sets')
    rig.stop(signal.SIGKILL)
    desk.wait_for_log(node, '/global/image: 0 messages in')
    rig = desk.start('rig', **small)
    desk.wait_for_log(node, 'sets are coming again')
    desk.wait_for_log(node, '/global/image has 2 publishers (two cameras, or a driver that has not ended yet)')
    assert rig.stop() == 0
    assert_accounted_for(desk)


def test_simulated_time_loops(desk: Desk) -> None:
    """A bag played with --clock --loop: each lap gives sets, and the seam is named. Before it nobody publishes a clock."""
    node = desk.start(use_sim_time=True, silence_s=1.0, **STILL)
    robot = Robot(desk)
    desk.wait_until_heard()
    robot.run_until(lambda: desk.sets(), 'sets without a clock')
    desk.wait_for_log(node, 'nothing has come on /clock yet')
    clock = desk.node.create_publisher(Clock, '/clock', 10)
    for lap in range(2):
        robot.mark()
        robot.ms = 10_000.0
        while robot.ms < 12_500:
            clock.publish(Clock(clock=header(robot.ms).stamp))
            robot.step()
        desk.wait(lambda: len(robot.reports_of_sets()) >= 40, f'sets of lap {lap}')
    assert {report['drop'] for report in desk.reports if 'drop' in report} <= {'clock_jump', 'superseded'}
    assert_accounted_for(desk)
    # The clock stands still now, and the node goes on telling.
    desk.wait(lambda: desk.diagnostics and 'no set comes out' in desk.status('encoder')[1], 'an error')
    assert stamp_ns(desk.diagnostics[-1]) == ns(robot.ms - PERIOD_MS)
