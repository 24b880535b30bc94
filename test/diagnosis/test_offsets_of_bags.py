"""A camera whose stamps are off: doctor and sync report say by how much, and the correction holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fused_encoder_ros.cli import main
from fused_encoder_ros.model.checkpoint import Dimensions, random_encoder
from fused_encoder_ros.settings import read_parameter_file

ROBOT = ['--set', 'cameras=[left_wrist, top]', '--set', 'anchor=top']


@pytest.fixture(scope='module')
def late(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag whose left wrist camera stamps 45 ms after the capture; the other one sees little of the motion."""
    bag = tmp_path_factory.mktemp('bags') / 'late'
    options = ['--scene', 'lab', '--seed', '5', '--duration', '30', '--size', '96x96', '--cameras', 'left_wrist', 'top']
    assert main(['rig', str(bag), *options, '--camera-rate', '20', '--stamp-error', 'left_wrist=45']) == 0
    return bag


def doctor(capsys: pytest.CaptureFixture[str], bag: Path, *options: str) -> tuple[int, dict[str, Any]]:
    code = main(['doctor', str(bag), *options, '--json'])
    return code, json.loads(capsys.readouterr().out)


def test_doctor_measures_corrects_and_is_quiet(late: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / 'robot.yaml'
    code, said = doctor(capsys, late, *ROBOT, '--write', str(file))
    (found,) = [finding for finding in said['findings'] if finding['severity'] != 'note']
    assert code == 3 and 'of left_wrist are' in found['title'] and 'older than their stamps say' in found['title']
    (told,) = found['parameters'].values()
    assert list(found['parameters']) == ['stamp_offset_ms.left_wrist'] and told == pytest.approx(-45.0, abs=5.0)
    assert read_parameter_file(file)['stamp_offset_ms.left_wrist'] == told
    assert 'Not corrected' not in file.read_text()

    code, said = doctor(capsys, late, '--config', str(file))
    offset = said['facts']['offsets']['left_wrist']
    assert code == 0 and offset['low_ms'] < 0.0 < offset['high_ms'] and abs(offset['ms']) < 2.0


def test_an_offset_that_the_training_had_too_is_right(late: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, spec, packed = tmp_path / 'run.pth', tmp_path / 'spec.yaml', tmp_path / 'packed.safetensors'
    torch.save(random_encoder(Dimensions('single', 16, 32, 16, 2), seed=0).state_dict(), weights)
    spec.write_text('cameras: [left_wrist, top]\n')
    assert main(['profile', str(late), *ROBOT, '--out', str(tmp_path / 'profile')]) == 0
    profile = str(tmp_path / 'profile' / 'profile.npz')
    assert main(['pack', str(weights), '--spec', str(spec), '--profile', profile, '--out', str(packed)]) == 0
    assert 'time offset -4' in capsys.readouterr().out
    options = ['--checkpoint', str(packed), '--set', 'anchor=top', '--set', 'engine=eager']
    code, said = doctor(capsys, late, *options)
    assert code == 0 and said['facts']['trained_offsets']['left_wrist']['ms'] == pytest.approx(-45.0, abs=5.0)

    code, said = doctor(capsys, late, *options, '--set', 'stamp_offset_ms.left_wrist=-45.0')
    (found,) = [finding for finding in said['findings'] if finding['severity'] != 'note']
    assert code == 3 and 'of left_wrist are' in found['title'] and 'newer than in training' in found['title']
    assert found['parameters']['stamp_offset_ms.left_wrist'] == pytest.approx(0.0, abs=5.0)


def test_the_sync_report_shows_it(late: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / 'page.html'
    assert main(['sync-report', str(late), *ROBOT, '--out', str(page)]) == 0
    assert '--set stamp_offset_ms.left_wrist=-4' in capsys.readouterr().out
    text = page.read_text()
    assert (
        'Time offsets' in text
        and '95 %)' in text
        and 'of the motion is explained, at −' in text
        and 'older than their stamps say' in text
    )


def test_what_cannot_be_told_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = tmp_path / 'bag'
    assert main(['rig', str(bag), '--scene', 'lab', '--duration', '3', '--size', '64x48']) == 0
    capsys.readouterr()
    assert main(['doctor', str(bag)]) == 0
    printed = capsys.readouterr().out
    assert printed.count('unknown: only 3 s of pictures while a joint moves; 15 s of motion are needed') == 3


@pytest.mark.parametrize('option', ['left_wrist', 'left_wrist=x', 'front=45', 'global=5000'])
def test_an_unusable_stamp_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert main(['rig', str(tmp_path / 'bag'), '--stamp-error', option]) == 2
    assert option.partition('=')[0] in capsys.readouterr().err
