"""The doctor beside a robot that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import preloaded
import pytest
from live import Desk
from rclpy.qos import ReliabilityPolicy

from fused_encoder_ros.settings import read_parameter_file


def doctor(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = preloaded.run('fused_encoder_ros.cli', 'doctor', '--live', '--seconds', '2', '--json', *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_sound_robot(desk_with_large_images: Desk) -> None:
    desk = desk_with_large_images
    desk.start('rig', width=64, height=48, reliability='best_effort')
    desk.wait(lambda: desk.node.count_publishers('/global/image'), 'the robot')
    _, said = doctor()
    assert not [finding for finding in said['findings'] if finding['severity'] == 'fail'], said['findings']
    assert said['facts']['offered']['global'] == ['best_effort'] and said['facts']['offered']['joint_states'] == ['reliable']
    assert said['facts']['counts']['sets'] > 30 and said['facts']['streams']['global']['delay']['middle_ms'] > 5
    assert said['transport']['rmw'].startswith('rmw_') and said['transport']['segment_bytes'] == 32 * 1024**2


def test_the_file_written_beside_a_robot_makes_the_node_run(desk: Desk, tmp_path: Path) -> None:
    """The topic is misspelled, another is of a wrong type, and reliable subscriptions hear no best-effort camera."""
    desk.advertise({'/cam/info': 'sensor_msgs/msg/JointState'}, ReliabilityPolicy.RELIABLE)
    desk.start('rig', width=64, height=48, reliability='best_effort')
    desk.wait(lambda: desk.node.count_publishers('/global/image'), 'the robot')
    out = tmp_path / 'params.yaml'
    topics = ['--topic', 'left_wrist=/cam/info', '--topic', 'global=/globall/image']
    code, said = doctor(*topics, '--set', 'reliability=reliable', '--write', str(out))
    titles = [finding['title'] for finding in said['findings']]
    assert code == 1 and 'the robot has no usable topic for left_wrist, global' in titles
    (missing,) = [finding for finding in said['findings'] if 'no usable topic' in finding['title']]
    assert missing['parameters'] == {'topics.left_wrist': '/left_wrist/image', 'topics.global': '/global/image'}
    assert '/cam/info is sensor_msgs/msg/JointState' in missing['evidence']
    assert 'a reliable subscription receives nothing from right_wrist' in titles
    assert read_parameter_file(out)['reliability'] == 'auto'
    node = desk.start_with('--ros-args', '--params-file', str(out), '-p', 'engine:=eager')
    desk.wait(desk.sets, 'a set')
    assert desk.sets() and node.process.poll() is None


# A shared memory of its own, as a container has.
CONTAINED = ('unshare', '--user', '--map-root-user', '--mount', 'sh', '-c', 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', 'sh')


@pytest.mark.skipif(subprocess.call([*CONTAINED, 'true']) != 0, reason='this system lets nobody make namespaces')
def test_a_robot_in_another_container_is_found_but_not_heard(desk_with_usual_buffers: Desk) -> None:
    desk = desk_with_usual_buffers
    node = desk.start()
    robot = subprocess.Popen([*CONTAINED, sys.executable, '-m', 'fused_encoder_ros.ros.rig'])
    try:
        for topic in ('/left_wrist/image', '/right_wrist/image', '/global/image', '/joint_states'):
            desk.wait_for_log(node, f'{topic}: 0 messages in')
            assert '1 publisher(s), but nothing of it arrives' in node.log
        code, said = doctor()
    finally:
        robot.kill()
        robot.wait()
    title = 'nothing arrives from the publishers of left_wrist, right_wrist, global, joint_states'
    assert code == 1 and [f['title'] for f in said['findings'] if f['severity'] == 'fail'] == [title]
    assert said['facts']['unreached'] == ['left_wrist', 'right_wrist', 'global', 'joint_states']
