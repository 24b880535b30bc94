"""Checkpoints: the training code's load, everything else is refused with the reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from fused_encoder_ros.errors import CheckpointError, ConfigError
from fused_encoder_ros.model import (
    ImageJointEncoder,
    ModelOptions,
    ThreeStreamEncoder,
    content_hash,
    load_encoder,
    load_model,
)
from fused_encoder_ros.model.packed_checkpoint import read_packed
from fused_encoder_ros.model.packed_spec import read_packed_spec
from fused_encoder_ros.spec import ObservationSpec

SPEC = ObservationSpec()


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the training class saves it: with an image feature of 128."""
    path = tmp_path_factory.mktemp('checkpoint') / 'run_obs_encoder.pth'
    torch.save(ImageJointEncoder(joint_dim=16, image_feature_dim=128, fusion_dim=192).state_dict(), path)
    return path


@pytest.fixture(scope='module')
def three_stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('checkpoint') / 'old_obs_encoder.pth'
    torch.save(ThreeStreamEncoder(joint_dim=16).state_dict(), path)
    return path


def test_dimensions_are_read_off_the_checkpoint(checkpoint: Path) -> None:
    encoder = load_encoder(checkpoint)
    assert isinstance(encoder, ImageJointEncoder) and not encoder.training
    assert encoder.image_encoder.fc.out_features == 128 and encoder.fusion_dim == 192 and encoder.joint_dim == 16
    for name, tensor in torch.load(checkpoint, weights_only=True).items():
        assert torch.equal(encoder.state_dict()[name], tensor)


def test_design_is_read_off_the_checkpoint(three_stream: Path) -> None:
    assert isinstance(load_encoder(three_stream), ThreeStreamEncoder)


def test_the_other_design_is_refused_when_one_was_asked_for(three_stream: Path) -> None:
    with pytest.raises(CheckpointError, match=r'old_obs_encoder.pth holds the three_stream design, but design is single'):
        load_encoder(three_stream, 'single')


def test_loading_leaves_the_random_state_alone(checkpoint: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_encoder(checkpoint)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize('kept', [0, 100, 0.5, 0.999])
def test_truncated(checkpoint: Path, tmp_path: Path, kept: float) -> None:
    data = checkpoint.read_bytes()
    path = tmp_path / 'cut.pth'
    path.write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    with pytest.raises(CheckpointError, match=r'cut.pth is (truncated or damaged|refused: it is damaged)'):
        load_encoder(path)


def test_a_damaged_weight_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """torch would load it: it does not compare the checksums that it has written."""
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / 'run.pth').write_bytes(content)
    torch.load(tmp_path / 'run.pth', weights_only=True)
    with pytest.raises(
        CheckpointError, match=r'run.pth is truncated or damaged; .*the checksum of .*/data/\d+ does not match'
    ):
        load_encoder(tmp_path / 'run.pth')


class Malicious:
    """Would create a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('legacy', [False, True])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, legacy: bool) -> None:
    """Through every door that a file of weights comes in by, and under the name of the other kind of file too."""
    trap, path = tmp_path / 'trap', tmp_path / 'evil.pth'
    torch.save({'fc.weight': Malicious(trap)}, path, _use_new_zipfile_serialization=not legacy)
    torch.load(path, weights_only=False)
    trap.rmdir()  # it works
    disguised = tmp_path / 'evil.safetensors'
    shutil.copy(path, disguised)
    doors: list[Callable[[Path], object]] = [
        load_encoder,
        lambda path: load_model(ModelOptions(checkpoint=str(path)), SPEC),
        lambda path: ImageJointEncoder(pretrained=path),
        lambda path: ThreeStreamEncoder(pretrained=path),
    ]
    for door in doors:
        with pytest.raises(CheckpointError, match=r'evil.pth is refused.*would run code'):
            door(path)
    for door in (*doors, read_packed_spec, read_packed):
        with pytest.raises(CheckpointError, match=r'evil.safetensors is truncated or damaged'):
            door(disguised)
    assert not trap.exists()


def test_a_pickle_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """torch's own text has colours, and a page of advice on how to load the file all the same."""
    torch.save({'fc.weight': torch.zeros(1), 'config': PurePosixPath('run')}, tmp_path / 'run.pth')
    with pytest.raises(CheckpointError) as refusal:
        load_encoder(tmp_path / 'run.pth')
    text = str(refusal.value)
    assert text.endswith(
        f'run.pth is refused: besides tensors it holds {PurePosixPath.__module__}.PurePosixPath, which would run code when it '
        'is loaded; save it again with torch.save(encoder.state_dict(), ...)'
    )
    assert text.isprintable()


def test_a_dictionary_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, object] = {'epoch': 1}
    content['state'] = content
    torch.save(content, tmp_path / 'loop.pth')
    with pytest.raises(CheckpointError, match='of neither design'):
        load_encoder(tmp_path / 'loop.pth')


def test_other_contents_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    def saved(content: object) -> Path:
        torch.save(content, tmp_path / 'other.pth')
        return tmp_path / 'other.pth'

    with pytest.raises(CheckpointError, match='is not a file'):
        load_encoder(tmp_path / 'absent.pth')
    with pytest.raises(CheckpointError, match='not a state dict'):
        load_encoder(saved([1, 2]))
    with pytest.raises(CheckpointError, match='of neither design'):
        load_encoder(saved({'weight': torch.zeros(3)}))
    state = torch.load(checkpoint, weights_only=True)
    del state['image_encoder.resnet.4.0.conv1.weight']
    with pytest.raises(CheckpointError, match=r'does not fit the single design(.|\n)*resnet.4.0.conv1.weight'):
        load_encoder(saved(state))
    del state['image_encoder.resnet.0.weight']
    with pytest.raises(CheckpointError, match=r'single encoder but is incomplete: .*resnet.0.weight'):
        load_encoder(saved(state))
    del state['fusion_fc.3.weight']
    with pytest.raises(CheckpointError, match='incomplete'):
        load_encoder(saved(state))


def test_joints_of_the_spec_must_fit_the_checkpoint(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match='trained with 16 joints, but joint_names lists 2'):
        load_model(ModelOptions(checkpoint=str(checkpoint)), ObservationSpec(joint_names=('a', 'b')))


def test_model_equals_the_encoder(checkpoint: Path) -> None:
    model = load_model(ModelOptions(checkpoint=str(checkpoint), device='cpu'), SPEC)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 84, 84, 9), dtype=np.uint8)
    joints = rng.normal(size=(2, 16)).astype(np.float32)
    features = model.encode(images, joints)
    cameras = [torch.from_numpy(images[..., c : c + 3]).permute(0, 3, 1, 2).float() / 255 for c in (0, 3, 6)]
    with torch.inference_mode():
        expected = load_encoder(checkpoint)(*cameras, torch.from_numpy(joints)).numpy()
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    assert features.dtype == np.float32 and model.feature_dim == 192 and not model.is_random
    assert model.hash == content_hash(load_encoder(checkpoint))


def test_camera_order_and_pixel_statistics_of_the_spec_are_applied(checkpoint: Path, three_stream: Path) -> None:
    """conv1 gets the stack in the spec's order, as in training; of three encoders each gets its own camera."""
    options = ModelOptions(checkpoint=str(checkpoint), device='cpu', engine='eager')
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (1, 84, 84, 9), dtype=np.uint8)
    joints = np.zeros((1, 16), np.float32)
    usual = load_model(options, SPEC).encode(images, joints)
    other = ObservationSpec(cameras=('global', 'left_wrist', 'right_wrist'))
    moved = np.roll(images, 3, axis=3)
    np.testing.assert_array_equal(
        load_model(options, other).encode(moved, joints), load_model(options, SPEC).encode(moved, joints)
    )
    three = ModelOptions(checkpoint=str(three_stream), device='cpu', engine='eager')
    np.testing.assert_array_equal(
        load_model(three, other).encode(moved, joints), load_model(three, SPEC).encode(images, joints)
    )
    # (x/255 - 0.25) / 0.5 equals (x/127.5 - 0.5) / 1.0
    with_statistics = ObservationSpec(pixel_mean=(0.25,) * 3, pixel_std=(0.5,) * 3)
    rescaled = ObservationSpec(pixel_divisor=127.5, pixel_mean=(0.5,) * 9, pixel_std=(1.0,) * 9)
    one, two = (load_model(options, spec).encode(images, joints) for spec in (with_statistics, rescaled))
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    assert np.abs(one - usual).max() > 1e-4


def test_random_encoder_depends_on_its_seed_alone() -> None:
    hashes = [load_model(ModelOptions(seed=seed), SPEC).hash for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]
    model = load_model(ModelOptions(design='three_stream'), SPEC)
    assert model.is_random and model.design == 'ThreeStreamEncoder' and 'RANDOM' in model.description


def test_the_number_of_threads_is_kept_whatever_others_set() -> None:
    """It changes the last bits of a feature, so a library that changes it must not."""
    model = load_model(ModelOptions(threads=1), SPEC)
    torch.set_num_threads(2)
    model.encode(np.zeros((1, 84, 84, 9), np.uint8), np.zeros((1, 16), np.float32))
    assert torch.get_num_threads() == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has CUDA')
def test_cuda_is_never_replaced_silently() -> None:
    with pytest.raises(ConfigError, match=r'device: cuda was asked for, but torch'):
        load_model(ModelOptions(device='cuda'), SPEC)
    assert load_model(ModelOptions(device='auto'), SPEC).engine.device.type == 'cpu'


def test_unknown_devices_are_named() -> None:
    for device in ('gpu', 'mps'):
        with pytest.raises(ConfigError, match='device'):
            load_model(ModelOptions(device=device), SPEC)


@pytest.mark.parametrize('count', [1, 2, 4])
def test_cameras_are_read_off_the_checkpoint(tmp_path: Path, count: int) -> None:
    names = ('front', 'left_wrist', 'right_wrist', 'top')[:count]
    torch.save(ImageJointEncoder(camera_count=count).state_dict(), tmp_path / 'one.pth')
    torch.save(ThreeStreamEncoder(cameras=names[::-1]).state_dict(), tmp_path / 'each.pth')
    assert load_encoder(tmp_path / 'one.pth').camera_count == count
    # The names do not say in what order their features are joined; the spec does.
    assert load_encoder(tmp_path / 'each.pth', cameras=names).cameras == names
    spec = ObservationSpec(cameras=names)
    for name in ('one.pth', 'each.pth'):
        model = load_model(ModelOptions(checkpoint=str(tmp_path / name), device='cpu', engine='eager'), spec)
        images = np.zeros((1, 84, 84, 3 * count), np.uint8)
        assert model.encode(images, np.zeros((1, 16), np.float32)).shape == (1, 256)


def test_cameras_of_the_spec_must_fit_the_checkpoint(checkpoint: Path, three_stream: Path) -> None:
    two = ObservationSpec(cameras=('left_wrist', 'global'))
    with pytest.raises(
        CheckpointError,
        match=r'of 9 channels, from 3 camera\(s\), but cameras lists 2, which make 6: left_wrist, global; ',
    ):
        load_model(ModelOptions(checkpoint=str(checkpoint), device='cpu'), two)
    with pytest.raises(
        CheckpointError, match='has encoders for left_wrist, right_wrist, global, but cameras lists left_wrist, global; name'
    ):
        load_model(ModelOptions(checkpoint=str(three_stream), device='cpu'), two)
    state = torch.load(checkpoint, weights_only=True)
    state['image_encoder.resnet.0.weight'] = torch.zeros(64, 4, 7, 7)
    torch.save(state, checkpoint.with_name('four.pth'))
    with pytest.raises(CheckpointError, match=r'four.pth takes images of 4 channels, which is not a multiple of 3'):
        load_encoder(checkpoint.with_name('four.pth'))
