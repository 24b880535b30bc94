"""What the node may do: the SROS 2 policy is its graph, and it writes nothing but its log."""

from __future__ import annotations

import hashlib
import importlib.util
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from live import Desk, change, set_parameter
from robot import Robot

from fused_encoder_ros.model import ImageJointEncoder
from fused_encoder_ros.model.packed_checkpoint import write_packed
from fused_encoder_ros.spec import ObservationSpec

POLICY = Path(__file__).parents[2] / 'sros2' / 'policies' / 'fused_encoder.policy.xml'
NODE, NAMESPACE = 'fused_encoder', '/robot'

# rclpy has no type descriptions there.
NOT_IN_HUMBLE = {('reply', f'{NAMESPACE}/{NODE}/get_type_description')}


def allowed() -> set[tuple[str, str]]:
    """What the policy allows in a namespace: (publish, subscribe, reply or request; full name)."""
    (profile,) = ET.parse(POLICY).getroot().iterfind('enclaves/enclave/profiles/profile')
    assert (profile.get('ns'), profile.get('node')) == ('/', NODE)

    def full(name: str) -> str:
        return name if name.startswith('/') else f'{NAMESPACE}/{name.replace("~", NODE)}'

    found = [
        (what, full(str(entry.text)))
        for group in profile
        for what, rule in group.items()
        for entry in group
        if rule == 'ALLOW'
    ]
    assert len(found) == len(set(found))
    return set(found)


def used(desk: Desk) -> set[tuple[str, str]]:
    """What the graph shows of the node; nothing while it does not know it."""
    asked: dict[str, Callable[..., list[tuple[str, list[str]]]]] = {
        'publish': desk.node.get_publisher_names_and_types_by_node,
        'subscribe': desk.node.get_subscriber_names_and_types_by_node,
        'reply': desk.node.get_service_names_and_types_by_node,
        'request': desk.node.get_client_names_and_types_by_node,
    }
    if (NODE, NAMESPACE) not in desk.node.get_node_names_and_namespaces():
        return set()
    return {(what, topic) for what, ask in asked.items() for topic, _ in ask(NODE, NAMESPACE)}


def test_the_policy_is_what_the_node_uses(desk: Desk) -> None:
    """In a namespace, where no other test's node is taken for it."""
    node = desk.start_with('--ros-args', '-r', f'__ns:={NAMESPACE}', '-p', 'use_sim_time:=true')
    desk.wait_for_log(node, 'active; anchor')
    expected = allowed() - (set() if importlib.util.find_spec('rclpy.type_description_service') else NOT_IN_HUMBLE)
    desk.wait(lambda: used(desk) >= expected, f'all of {sorted(expected)} in the graph')
    assert used(desk) == expected


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file, folder and link below a folder: when it was changed, and what it holds."""
    return {
        str(path): (path.lstat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else '')
        for path in [folder, *folder.rglob('*')]
    }


def test_parameters_that_name_files_have_none_written(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they point at is as it was, and so is each place where a node may think to keep something."""
    watched = tmp_path / 'watched'
    for variable in ('HOME', 'TMPDIR', 'XDG_CACHE_HOME'):
        (watched / variable).mkdir(parents=True)
        monkeypatch.setenv(variable, str(watched / variable))
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'log'))
    monkeypatch.chdir(watched / 'HOME')
    folder, text, link, good = (watched / name for name in ('folder', 'notes.txt', 'link.safetensors', 'run.safetensors'))
    folder.mkdir()
    text.write_text('precious')
    write_packed(good, ImageJointEncoder().eval(), ObservationSpec())
    link.symlink_to(good)
    dangling = watched / 'dangling.safetensors'
    dangling.symlink_to(watched / 'nowhere' / 'new.safetensors')
    before = contents(watched)

    node = desk.start(autostart=False)
    for place in (folder, text, dangling, watched / 'new.pth', '/dev/null', '~nobody-at-all/run.pth'):
        assert set_parameter(desk, 'checkpoint', str(place)).successful
        assert not change(desk, Transition.TRANSITION_CONFIGURE), place
    set_parameter(desk, 'device', str(text))
    assert not change(desk, Transition.TRANSITION_CONFIGURE)
    set_parameter(desk, 'device', 'auto')
    set_parameter(desk, 'checkpoint', str(link))
    assert change(desk, Transition.TRANSITION_CONFIGURE) and change(desk, Transition.TRANSITION_ACTIVATE)
    robot = Robot(desk)
    desk.wait_until_heard()
    robot.run_until(lambda: len(desk.sets()) >= 3, 'sets')
    assert 'Traceback' not in node.log, node.log
    assert node.stop() == 0
    after = contents(watched)
    # Python tries whether it can write there; what it then wrote would be listed.
    assert {**after, str(watched / 'TMPDIR'): ''} == {**before, str(watched / 'TMPDIR'): ''}
