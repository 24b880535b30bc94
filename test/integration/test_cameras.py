"""Robots with other cameras than the usual three, live."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from lifecycle_msgs.msg import Transition
from live import Desk, call, change, set_parameter
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from robot import JOINTS, image, joint_state, wait_for_report
from sensor_msgs.msg import Image

from fused_encoder_ros.cli import main
from fused_encoder_ros.model import ImageJointEncoder, ThreeStreamEncoder
from fused_encoder_ros.model.packed_checkpoint import write_packed
from fused_encoder_ros.spec import ObservationSpec


def advertise(desk: Desk, *topics: str) -> None:
    desk.advertise({**dict.fromkeys(topics, 'sensor_msgs/msg/Image'), **JOINTS})
    desk.wait_until_heard()


@pytest.mark.parametrize('cameras', [('front',), ('front', 'left_wrist', 'right_wrist', 'top')])
def test_sets_of_any_number_of_cameras(desk: Desk, cameras: tuple[str, ...]) -> None:
    """Each camera's picture stands in its place, and diagnostics have a status for each."""
    montages: list[Image] = []
    desk.node.create_subscription(Image, '/fused_encoder/observation', montages.append, 10)
    node = desk.start(cameras=f'[{", ".join(cameras)}]')
    advertise(desk, *(f'/{camera}/image' for camera in cameras))
    for ms in range(0, 500, 50):
        for i, camera in enumerate(cameras):
            desk.publishers[f'/{camera}/image'].publish(image(ms, 10 * (i + 1) + ms // 50))
        desk.publishers['/joint_states'].publish(joint_state(ms))
        wait_for_report(desk, ms)
    desk.wait(lambda: montages, 'an observation')
    views = np.frombuffer(montages[-1].data, np.uint8).reshape(84, len(cameras), 84, 3)
    brightness = [int(views[:, i].max()) for i in range(len(cameras))]
    assert np.diff(brightness).tolist() == [10] * (len(cameras) - 1)
    report = desk.reports[-1]
    assert list(report['stamps_ns']) == [*cameras, 'joint_states'] and report['stamps_ns']['front'] == report['stamp_ns']
    desk.wait(lambda: desk.status('encoder')[2]['sets'] == '10', 'ten sets in diagnostics')
    for camera in cameras:
        assert desk.status(camera)[2]['topic'] == f'/{camera}/image'
    assert 'active; anchor front; listening to /front/image' in node.log
    assert node.stop() == 0


def test_a_packed_checkpoint_names_the_cameras(desk: Desk, tmp_path: Path) -> None:
    spec = ObservationSpec(cameras=('wrist', 'global'), image_size=64)
    write_packed(tmp_path / 'run.safetensors', ThreeStreamEncoder(cameras=spec.cameras).eval(), spec)
    desk.start(checkpoint=tmp_path / 'run.safetensors', topics__wrist='/hand/color')
    advertise(desk, '/hand/color', '/global/image')
    for topic in ('/hand/color', '/global/image'):
        desk.publishers[topic].publish(image(0))
    desk.publishers['/joint_states'].publish(joint_state(0))
    wait_for_report(desk, 0)
    (report,) = desk.sets().values()
    assert list(report['stamps_ns']) == ['wrist', 'global', 'joint_states']
    request = GetParameters.Request(names=['cameras', 'anchor', 'topics.global'])
    cameras, anchor, topic = call(desk, GetParameters, '/fused_encoder/get_parameters', request).values
    assert list(cameras.string_array_value) == ['wrist', 'global']
    assert (anchor.string_value, topic.string_value) == ('global', 'global/image')


def test_cameras_can_be_set_before_the_node_is_configured(desk: Desk) -> None:
    """Their topics are parameters from then on, and those of the usual three are none any more."""
    node = desk.start(autostart=False)

    def set_cameras(*names: str) -> str:
        value = ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=list(names))
        request = SetParameters.Request(parameters=[Parameter(name='cameras', value=value)])
        return str(call(desk, SetParameters, '/fused_encoder/set_parameters', request).results[0].reason)

    assert "'front' is named 2 times" in set_cameras('front', 'front')
    assert set_cameras('front', 'hand') == ''
    listed = call(desk, ListParameters, '/fused_encoder/list_parameters', ListParameters.Request(prefixes=['topics']))
    assert sorted(listed.result.names) == ['topics.front', 'topics.hand', 'topics.joint_states']
    assert set_parameter(desk, 'topics.hand', '/hand/color').successful
    assert not set_parameter(desk, 'topics.left_wrist', '/l').successful
    assert change(desk, Transition.TRANSITION_CONFIGURE) and change(desk, Transition.TRANSITION_ACTIVATE)
    assert 'anchor front; listening to /front/image, /hand/color, /joint_states' in node.log
    assert change(desk, Transition.TRANSITION_DEACTIVATE) and change(desk, Transition.TRANSITION_CLEANUP)
    assert set_cameras('top') == ''
    assert change(desk, Transition.TRANSITION_CONFIGURE) and change(desk, Transition.TRANSITION_ACTIVATE)
    assert 'anchor top; listening to /top/image, /joint_states' in node.log


@pytest.mark.parametrize(
    ('parameters', 'says'),
    [
        ({'cameras': '[front, front]'}, "cameras: 'front' is named 2 times; name each camera once"),
        ({'cameras': '["front camera"]'}, "cameras: 'front camera' cannot be part of a topic"),
        (
            {'cameras': '[front]', 'topics__left_wrist': '/l'},
            'topics.left_wrist: there is no camera left_wrist (the cameras are front',
        ),
        ({'cameras': '[front]', 'anchor': 'global'}, "anchor: 'global' is unknown; use one of"),
        (
            {'cameras': '[front]', 'checkpoint': ''},
            'takes images of 9 channels, from 3 camera(s), but cameras lists 1, which make 3',
        ),
    ],
)
def test_unusable_cameras_end_the_node_with_the_fix(
    desk: Desk, tmp_path: Path, parameters: dict[str, object], says: str
) -> None:
    torch.save(ImageJointEncoder().state_dict(), tmp_path / 'three.pth')
    node = desk.start(**{n: value or tmp_path / 'three.pth' for n, value in parameters.items()})
    desk.wait(lambda: node.process.poll() is not None, 'the node to end')
    assert node.process.returncode == 1 and says in node.log and 'Traceback' not in node.log, node.log


def test_policy_and_layout_name_the_cameras(tmp_path: Path) -> None:
    """Those that are installed are for the usual three."""
    root = Path(__file__).parents[2]
    assert (
        main(['policy', '--out', str(tmp_path / 'usual.xml')]) == main(['layout', '--out', str(tmp_path / 'usual.json')]) == 0
    )
    assert (tmp_path / 'usual.xml').read_text() == (root / 'sros2/policies/fused_encoder.policy.xml').read_text()
    assert (tmp_path / 'usual.json').read_text() == (root / 'config/foxglove_layout.json').read_text()

    asked = ['--set', 'cameras=[front, hand]', '--topic', 'front=/f&<>/image', '--out']
    assert main(['policy', *asked, str(tmp_path / 'own.xml')]) == main(['layout', *asked, str(tmp_path / 'own.json')]) == 0
    (group,) = ET.parse(tmp_path / 'own.xml').getroot().iterfind('.//topics[@subscribe]')
    assert [topic.text for topic in group] == ['/f&<>/image', 'hand/image', 'joint_states', '/clock']
    text = (tmp_path / 'own.json').read_text()
    content = json.loads(text)
    assert [path['label'] for path in content['configById']['Plot!skew']['paths']] == ['front', 'hand', 'joint_states']
    assert (
        'skew_max_ms: hand' in (tmp_path / 'own.json').read_text() and 'left_wrist' not in (tmp_path / 'own.json').read_text()
    )
