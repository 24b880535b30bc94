"""A packed checkpoint says how it must be fed, and nothing else is fed to it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from fused_encoder_ros.cli import main
from fused_encoder_ros.errors import CheckpointError, ConfigError
from fused_encoder_ros.model import (
    ImageJointEncoder,
    ModelOptions,
    ThreeStreamEncoder,
    content_hash,
    load_encoder,
    load_model,
)
from fused_encoder_ros.model.engines import ERROR_BOUNDS, relative_error
from fused_encoder_ros.model.engines.eager import EagerEngine
from fused_encoder_ros.model.packed_checkpoint import _content_hash, read_packed, write_packed
from fused_encoder_ros.model.packed_spec import read_packed_spec
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.spec import ObservationSpec

NAMES = tuple(f'j{i}' for i in range(4))
SPEC = ObservationSpec(
    cameras=('global', 'left_wrist', 'right_wrist'),
    image_size=64,
    interpolation='area',
    pixel_mean=(0.4,) * 3,
    pixel_std=(0.2,) * 3,
    joint_names=NAMES,
    joint_mean=(0.1, 0.2, 0.3, 0.4),
    joint_std=(1.0, 0.0, 2.0, 0.5),
)


def encoder() -> ImageJointEncoder:
    torch.manual_seed(3)
    return ImageJointEncoder(joint_dim=4, image_feature_dim=32, fusion_dim=48).eval()


@pytest.fixture(scope='module')
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('packed') / 'run.safetensors'
    write_packed(path, encoder(), SPEC)
    return path


def altered(packed: Path, tmp_path: Path, change: object, is_older: bool = False) -> Path:
    """A copy with other tensors or metadata; `change` gets both. An older one has no hash of its metadata."""
    from safetensors import safe_open

    with safe_open(packed, 'pt') as file:
        about = json.loads(file.metadata()['fused_encoder_ros'])
    tensors = load_file(packed)
    if is_older:
        del about['about_hash']
    change(tensors, about)  # type: ignore[operator]
    save_file(tensors, tmp_path / 'altered.safetensors', {'fused_encoder_ros': json.dumps(about)})
    return tmp_path / 'altered.safetensors'


def test_everything_comes_back(packed: Path) -> None:
    content, written = read_packed(packed), encoder().state_dict()
    assert content is not None and content.spec == SPEC == read_packed_spec(packed)
    assert all(torch.equal(t, written[name]) for name, t in content.encoder.state_dict().items())
    assert content.dimensions.fusion_dim == 48 and content.golden.feature.shape == (1, 48)
    assert packed.stat().st_mode & 0o044, 'others must be able to read it, as any file'


def test_settings_take_the_spec_from_it(packed: Path) -> None:
    settings = Settings.from_values({'checkpoint': str(packed), 'tolerance_ms': 7})
    assert settings.spec == SPEC
    model = load_model(settings.model, settings.spec)
    assert model.is_described and model.warnings == [] and model.feature_dim == 48
    agreeing = {'image_size': 64, 'joint_names': list(NAMES), 'joint_std': [1, 0, 2, 0.5]}
    assert Settings.from_values({'checkpoint': str(packed), **agreeing}).spec == SPEC


@pytest.mark.parametrize(
    ('values', 'says'),
    [
        ({'image_size': 84}, r'image_size: the parameter is 84, but .*run.safetensors was trained with 64'),
        (
            {'cameras': ['left_wrist', 'right_wrist', 'global']},
            r"cameras: .*\['left_wrist', 'right_wrist', 'global'\], but .*\['gl",
        ),
        ({'joint_names': ['j1', 'j0', 'j2', 'j3']}, r"joint_names: .*\['j1', .* was trained with \['j0'"),
        ({'joint_mean': []}, r'joint_mean: the parameter is nothing, but .* \[0.1, 0.2'),
        ({'interpolation': 'linear'}, 'interpolation'),
    ],
)
def test_contradictions_show_both_sides(packed: Path, values: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Settings.from_values({'checkpoint': str(packed), **values})


def test_another_spec_is_refused_from_python_too(packed: Path) -> None:
    with pytest.raises(CheckpointError, match='contains another observation spec'):
        load_model(ModelOptions(checkpoint=str(packed)), ObservationSpec(joint_names=NAMES))


def test_what_was_altered_is_refused(packed: Path, tmp_path: Path) -> None:
    def weight(tensors: dict[str, torch.Tensor], about: dict[str, object]) -> None:
        tensors['fusion_fc.3.bias'][0] += 1e-3

    def order(tensors: dict[str, torch.Tensor], about: dict[str, dict[str, object]]) -> None:
        about['spec']['cameras'] = ['left_wrist', 'right_wrist', 'global']

    for change in (weight, order):
        with pytest.raises(CheckpointError, match='was altered after it was packed'):
            read_packed(altered(packed, tmp_path, change))


@pytest.mark.parametrize(
    ('before', 'after', 'says'),
    [
        (b'"image_size\\": 64', b'"image_size\\": 66', 'was altered after it was packed'),
        (b'"j0\\", \\"j1', b'"j1\\", \\"j0', 'was altered after it was packed'),
        (b'"fused_encoder_ros"', b'"fused_encodes_ros"', 'its observation spec is missing'),
    ],
)
def test_a_damaged_spec_is_refused_without_the_weights(
    packed: Path, tmp_path: Path, before: bytes, after: bytes, says: str
) -> None:
    """As by `export`, which needs no encoder."""
    content = packed.read_bytes()
    assert content.count(before) == 1
    (tmp_path / 'run.safetensors').write_bytes(content.replace(before, after))
    with pytest.raises(CheckpointError, match=says):
        Settings.from_values({'checkpoint': str(tmp_path / 'run.safetensors')})


def test_newer_and_unreadable_forms_are_named(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r'has format 9, written by version 0.1.0, .*update this package'):
        read_packed_spec(altered(packed, tmp_path, lambda tensors, about: about.update(format=9)))
    with pytest.raises(CheckpointError, match=r'unusable observation spec: .*image_size'):
        read_packed_spec(altered(packed, tmp_path, lambda tensors, about: about['spec'].update(image_size=0), is_older=True))
    save_file(load_file(packed), tmp_path / 'x.safetensors', {'fused_encoder_ros': '{'})
    with pytest.raises(CheckpointError, match='unreadable metadata'):
        read_packed_spec(tmp_path / 'x.safetensors')
    (tmp_path / 'x.safetensors').write_bytes(packed.read_bytes()[:10000])
    with pytest.raises(CheckpointError, match='truncated or damaged'):
        read_packed(tmp_path / 'x.safetensors')


@pytest.mark.parametrize('engine', ['eager', 'packed', 'openvino'])
def test_the_golden_feature_is_checked_on_the_engine_in_use(packed: Path, tmp_path: Path, engine: str) -> None:
    """As where a GPU, a driver or a library computes something else than the machine that packed it."""
    options = ModelOptions(checkpoint=str(packed), device='cpu', engine=engine)
    load_model(options, SPEC)
    content = read_packed(packed)
    assert content is not None
    other = encoder()
    with torch.no_grad():
        other.fusion_fc[3].weight *= 1.001
    path = tmp_path / 'other.safetensors'
    write_packed(path, other, SPEC)

    def swap_golden(tensors: dict[str, torch.Tensor], about: dict[str, object]) -> None:
        from fused_encoder_ros.model.packed_checkpoint import _content_hash

        tensors['golden.feature'] = torch.from_numpy(content.golden.feature)
        del about['content_hash']
        about['content_hash'] = _content_hash(tensors, about)

    with pytest.raises(CheckpointError, match=rf'does not give its golden feature on {engine} fp32 on cpu: relative error'):
        load_model(ModelOptions(checkpoint=str(altered(path, tmp_path, swap_golden)), device='cpu', engine=engine), SPEC)


def test_the_golden_pair_catches_another_encoder_and_another_spec(packed: Path) -> None:
    """What computes something else is past every bound, although a joint of this spec never moved in training."""
    content = read_packed(packed)
    assert content is not None
    golden = content.golden

    def error(other: torch.nn.Module, spec: ObservationSpec) -> float:
        engine = EagerEngine(other, spec, torch.device('cpu'))
        return relative_error(engine.encode(golden.images, spec.standardise(golden.joint_positions)), golden.feature)

    swapped = encoder()
    conv1 = swapped.image_encoder.resnet[0]
    with torch.no_grad():
        conv1.weight[:] = conv1.weight[:, [3, 4, 5, 0, 1, 2, 6, 7, 8]]
    assert error(encoder(), SPEC) <= ERROR_BOUNDS['fp32']
    assert error(swapped, SPEC) > 10 * ERROR_BOUNDS['fp32']
    for change in ({'joint_mean': (0.0,) * 4}, {'pixel_divisor': 250.0}, {'pixel_mean': (0.41,) * 3}):
        assert error(encoder(), dataclasses.replace(SPEC, **change)) > 10 * ERROR_BOUNDS['fp32']


def nested(state: dict[str, torch.Tensor]) -> dict[str, object]:
    target = {name: tensor + 1 for name, tensor in state.items()}
    return {
        'plain': state,
        'data parallel': {f'module.{name}': tensor for name, tensor in state.items()},
        'compiled': {f'_orig_mod.{name}': tensor for name, tensor in state.items()},
        'whole policy': {f'obs_encoder.{n}': t for n, t in state.items()} | {'actor.0.weight': torch.zeros(2)},
        'prefixes': {f'module.obs_encoder.encoder.{name}': tensor for name, tensor in state.items()},
        'checkpoint': {'epoch': 3, 'agent': {'obs_encoder': state, 'obs_encoder_target': target}, 'lr': 1e-4},
    }


@pytest.mark.parametrize('kind', [ImageJointEncoder, ThreeStreamEncoder])
def test_state_dicts_are_found_where_training_puts_them(tmp_path: Path, kind: type[torch.nn.Module]) -> None:
    state = kind(joint_dim=4, image_feature_dim=32, fusion_dim=48).state_dict()
    for name, content in nested(state).items():
        torch.save(content, tmp_path / 'x.pth')
        loaded = load_encoder(tmp_path / 'x.pth')
        assert type(loaded) is kind, name
        assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.state_dict().items()), name
    save_file({f'module.{name}': tensor for name, tensor in state.items()}, tmp_path / 'x.safetensors')
    assert read_packed_spec(tmp_path / 'x.safetensors') is None
    assert all(torch.equal(t, state[key]) for key, t in load_encoder(tmp_path / 'x.safetensors').state_dict().items())


def test_several_encoders_in_one_file_are_no_guess(tmp_path: Path) -> None:
    state = encoder().state_dict()
    torch.save({'left': state, 'right': {'encoder': state}}, tmp_path / 'two.pth')
    with pytest.raises(
        CheckpointError, match=r'two.pth holds 2 encoders: left, right.encoder; save only the one that you need'
    ):
        load_encoder(tmp_path / 'two.pth')
    torch.save({'model': state, **{f'model.{name}': tensor for name, tensor in state.items()}}, tmp_path / 'two.pth')
    with pytest.raises(CheckpointError, match=r'two.pth holds 2 encoders: model, model; save only the one that you need'):
        load_encoder(tmp_path / 'two.pth')
    torch.save({'target_reach_v2': {'encoder': state}, 'reach_target': {'encoder': state}}, tmp_path / 'targets.pth')
    with pytest.raises(CheckpointError, match='holds 2 encoders'):
        load_encoder(tmp_path / 'targets.pth')
    torch.save({'obs_encoder_target': state}, tmp_path / 'target.pth')
    load_encoder(tmp_path / 'target.pth')


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    state = {name: tensor.to(torch.int8) for name, tensor in encoder().state_dict().items()}
    torch.save(state, tmp_path / 'int8.pth')
    with pytest.raises(CheckpointError, match=r'int8.pth holds .* as torch.int8; save it as floating-point numbers'):
        load_encoder(tmp_path / 'int8.pth')
    half = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in encoder().state_dict().items()
    }
    torch.save(half, tmp_path / 'half.pth')
    assert load_encoder(tmp_path / 'half.pth').fusion_fc[3].weight.dtype == torch.float32


def test_pack_and_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, out, spec = tmp_path / 'run_obs_encoder.pth', tmp_path / 'run.safetensors', tmp_path / 'spec.yaml'
    torch.save(encoder().state_dict(), checkpoint)
    spec.write_text(yaml.safe_dump(SPEC.to_dict()))
    arguments = ['pack', str(checkpoint), '--spec', str(spec), '--out', str(out)]
    assert main(arguments) == 0
    assert 'cameras: [global, left_wrist, right_wrist]' in capsys.readouterr().out
    assert main(['inspect', str(out), '--json']) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts['packed'] and ObservationSpec.from_dict(facts['spec']) == SPEC and facts['golden_error'] < 1e-6
    assert facts['parameters']['total'] == sum(p.numel() for p in encoder().parameters())
    assert main(['inspect', str(checkpoint)]) == 0
    bare = capsys.readouterr().out
    assert facts['model_hash'] in bare and 'does not describe the input it was trained on' in bare

    assert main(arguments) == 2 and 'exists already' in capsys.readouterr().err
    before = out.read_bytes()
    assert main([*arguments, '--force']) == 0 and out.read_bytes() == before, 'the same content gives the same file'
    spec.write_text('image_size: 64\ncolour: 1\n')
    assert main([*arguments, '--force']) == 2 and "'colour' is not a field" in capsys.readouterr().err
    spec.write_text('fused_encoder:\n  ros__parameters:\n    tolerance_ms: 5\n    image_size: 64\n    joint_names: [a, b]\n')
    assert main([*arguments, '--force']) == 2 and 'trained with 4 joints, but joint_names lists 2' in capsys.readouterr().err
    assert out.read_bytes() == before
    assert main(['pack', str(checkpoint), '--spec', str(spec), '--out', 'x.pth']) == 2
    assert 'does not end with .safetensors; rename it' in capsys.readouterr().err


def test_what_is_packed_is_not_packed_again(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'spec.yaml').write_text('image_size: 84')
    out = tmp_path / 'again.safetensors'
    assert main(['pack', str(packed), '--spec', str(tmp_path / 'spec.yaml'), '--out', str(out)]) == 2
    assert f'{packed} is packed already; give the state dict' in capsys.readouterr().err and not out.exists()


def test_a_reader_that_has_had_enough(packed: Path) -> None:
    """As `fused-encoder inspect ... | head -1`."""
    command = f'{sys.executable} -m fused_encoder_ros.cli inspect {packed} --json | head -1'
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert result.stdout == '{\n' and result.stderr == ''


def test_without_the_package_safetensors(packed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copy(packed, tmp_path)
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    with pytest.raises(CheckpointError, match='pip install safetensors'):
        read_packed(packed)
    assert read_packed_spec(packed) == SPEC


@pytest.mark.parametrize('count', [1, 2, 4])
@pytest.mark.parametrize('engine', ['packed', 'openvino'])
def test_any_number_of_cameras(tmp_path: Path, count: int, engine: str) -> None:
    """The golden pair is checked for each, and an exchange of two cameras shows in it."""
    spec = ObservationSpec(cameras=('front', 'left_wrist', 'right_wrist', 'top')[:count], joint_names=NAMES)
    torch.manual_seed(3)
    kind = ThreeStreamEncoder(4, 32, 48, cameras=spec.cameras).eval()
    write_packed(tmp_path / 'run.safetensors', kind, spec)
    settings = Settings.from_values({'checkpoint': str(tmp_path / 'run.safetensors'), 'engine': engine, 'device': 'cpu'})
    assert (
        settings.spec == spec and settings.sync.anchor == 'front' and set(settings.topics) == {*spec.cameras, 'joint_states'}
    )
    assert load_model(settings.model, settings.spec).hash == content_hash(kind)
    content = read_packed(tmp_path / 'run.safetensors')
    assert content is not None and content.golden.images.shape == (1, 84, 84, 3 * count)
    if count > 1:
        exchanged = EagerEngine(kind, dataclasses.replace(spec, cameras=spec.cameras[::-1]), torch.device('cpu'))
        assert content.golden_error(exchanged) > ERROR_BOUNDS['bf16']


def test_checkpoints_from_before_there_were_other_cameras_load(packed: Path, tmp_path: Path) -> None:
    """They say nothing of the number of cameras."""

    def as_it_was(tensors: dict[str, torch.Tensor], about: dict[str, object]) -> None:
        dimensions = about['dimensions']
        assert isinstance(dimensions, dict)
        del dimensions['camera_count'], dimensions['cameras']
        about.pop('content_hash')
        about['content_hash'] = _content_hash(tensors, about)

    content = read_packed(altered(packed, tmp_path, as_it_was, is_older=True))
    assert content is not None and content.spec == SPEC and content.dimensions.camera_count == 3


def test_offsets_of_the_training_data_travel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They hold where nobody says otherwise; a robot with another driver states its own."""
    checkpoint, out, file = tmp_path / 'run_obs_encoder.pth', tmp_path / 'run.safetensors', tmp_path / 'spec.yaml'
    torch.save(encoder().state_dict(), checkpoint)
    file.write_text(yaml.safe_dump({**SPEC.to_dict(), 'stamp_offset_ms': {'left_wrist': -45.0, 'global': 0.0}}))
    arguments = ['pack', str(checkpoint), '--spec', str(file), '--out', str(out)]
    assert main(arguments) == 0 and 'stamp offsets       left_wrist -45 ms' in capsys.readouterr().out
    assert main(['inspect', str(out), '--json']) == 0
    assert json.loads(capsys.readouterr().out)['stamp_offset_ms'] == {'left_wrist': -45.0}
    assert Settings.from_values({'checkpoint': str(out)}).stamp_offset_ms == {'left_wrist': -45.0}
    for stated, used in ((-20.0, {'left_wrist': -20.0}), (0.0, {})):
        settings = Settings.from_values({'checkpoint': str(out), 'stamp_offset_ms.left_wrist': stated})
        assert settings.stamp_offset_ms == used and settings.spec == SPEC

    names = ', '.join(NAMES)
    robot = f'cameras: [global, left_wrist, right_wrist]\n    joint_names: [{names}]\n    stamp_offset_ms.global: 12.5\n'
    file.write_text(f'/**:\n  ros__parameters:\n    {robot}    tolerance_ms: 5\n')
    assert main([*arguments, '--force']) == 0 and 'global +12.5 ms' in capsys.readouterr().out
    file.write_text(yaml.safe_dump({**SPEC.to_dict(), 'stamp_offset_ms': {'front': 1.0}}))
    assert main([*arguments, '--force']) == 2 and 'there is no camera front' in capsys.readouterr().err
    soon = {'left_wrist': 'soon'}
    damaged = altered(out, tmp_path, lambda tensors, about: about.update(stamp_offset_ms=soon), is_older=True)
    with pytest.raises(CheckpointError, match='holds unusable stamp offsets'):
        Settings.from_values({'checkpoint': str(damaged)})
