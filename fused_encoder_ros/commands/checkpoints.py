"""`fused-encoder pack` and `fused-encoder inspect`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fused_encoder_ros.content.profile import Profile
    from fused_encoder_ros.model.encoder import Encoder
    from fused_encoder_ros.model.packed_checkpoint import PackedCheckpoint
    from fused_encoder_ros.spec import ObservationSpec


def add_commands(commands: Any) -> None:
    """Add them to the parser."""
    pack = commands.add_parser(
        'pack',
        help='write a checkpoint that describes the input it was trained on',
        description='Write a packed checkpoint: the weights together with the observation spec of the training (cameras, '
        'image size, scaling, joints), hashes, and one observation with the feature that the encoder must give for it. The '
        'node and `encode` read the spec from it, refuse parameters that contradict it, and check that feature before they '
        'start.',
    )
    pack.add_argument('checkpoint', type=Path, metavar='CKPT', help='state dict of the training code: .pth or .safetensors')
    pack.add_argument(
        '--spec',
        type=Path,
        required=True,
        metavar='YAML',
        help="the observation spec of the training: a file with its fields and stamp_offset_ms, or the node's parameter file",
    )
    pack.add_argument(
        '--out', type=Path, required=True, metavar='FILE', help='file to write; its name must end with .safetensors'
    )
    pack.add_argument(
        '--profile',
        type=Path,
        metavar='FILE',
        help='profile of the training data from `fused-encoder profile`: the node then warns of data that look different',
    )
    pack.add_argument('--force', action='store_true', help='replace an existing file')
    pack.set_defaults(run=_pack)

    inspect = commands.add_parser(
        'inspect',
        help='show what a checkpoint contains',
        description='Print the design, dimensions, parameter counts and hashes of a checkpoint. For a packed checkpoint also '
        'print its observation spec, and the error of its golden feature on this machine.',
    )
    inspect.add_argument('checkpoint', type=Path, metavar='CKPT', help='.pth or .safetensors')
    inspect.add_argument(
        '--picture',
        type=Path,
        metavar='PNG',
        help='also draw what its profile says about the training data; an earlier file is replaced',
    )
    inspect.add_argument('--json', action='store_true', help='print JSON instead of text')
    inspect.set_defaults(run=_inspect)


def _pack(options: argparse.Namespace) -> int:
    from fused_encoder_ros.errors import ConfigError
    from fused_encoder_ros.model.checkpoint import load_encoder
    from fused_encoder_ros.model.packed_checkpoint import write_packed
    from fused_encoder_ros.model.packed_spec import SAFETENSORS_SUFFIX, read_packed_spec
    from fused_encoder_ros.offline.files import completed
    from fused_encoder_ros.settings import read_spec_file, read_stamp_offsets

    if options.out.suffix != SAFETENSORS_SUFFIX:
        raise ConfigError(f'--out: {options.out} does not end with {SAFETENSORS_SUFFIX}; rename it')
    if read_packed_spec(options.checkpoint) is not None:
        raise ConfigError(f'{options.checkpoint} is packed already; give the state dict that it was made from')
    spec = read_spec_file(options.spec)
    encoder = load_encoder(options.checkpoint, cameras=spec.cameras)
    profile = _profile_for(encoder, spec, options.profile) if options.profile else None
    with completed({'packed': options.out}, options.force) as files:
        write_packed(files['packed'], encoder, spec, profile, read_stamp_offsets(options.spec))
    print(f'wrote {options.out}\n')
    return _print_text(_describe(options.out))


def _profile_for(encoder: Encoder, spec: ObservationSpec, path: Path) -> bytes:
    """The contents of a profile, which fit the encoder and its spec. Raises ConfigError."""
    from fused_encoder_ros.content.profile import Profile
    from fused_encoder_ros.errors import ConfigError
    from fused_encoder_ros.model.checkpoint import content_hash

    try:
        contents = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f'--profile: {path} cannot be read: {error.strerror}; make one with `fused-encoder profile`'
        ) from None
    profile = Profile.from_bytes(contents, f'--profile {path}')
    profile.check_fits(spec, f'--profile {path}')
    if profile.model_hash and profile.model_hash != content_hash(encoder):
        raise ConfigError(
            f'--profile {path}: its features were made with other weights ({profile.model_hash[:12]}) than these '
            f'({content_hash(encoder)[:12]}); make the profile again with this checkpoint (--checkpoint)'
        )
    return contents


def _inspect(options: argparse.Namespace) -> int:
    facts = _describe(options.checkpoint)
    if options.picture:
        _draw(options.checkpoint, options.picture)
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    return _print_text(facts)


def _describe(path: Path) -> dict[str, Any]:
    from fused_encoder_ros.model.checkpoint import content_hash, dimensions_of, load_encoder
    from fused_encoder_ros.model.packed_checkpoint import read_packed

    packed = read_packed(path)
    encoder = load_encoder(path) if packed is None else packed.encoder
    facts: dict[str, Any] = {
        'file': str(path),
        'packed': packed is not None,
        **asdict(dimensions_of(encoder)),
        'parameters': _parameter_counts(encoder),
        'model_hash': content_hash(encoder),
    }
    if packed is not None:
        facts |= {
            'content_hash': packed.content_hash,
            'packed_with_version': packed.version,
            'golden_error': _golden_error(packed),
            'spec': packed.spec.to_dict(),
            'profile': _profile_facts(path),
            'stamp_offset_ms': dict(packed.stamp_offset_ms),
        }
    return facts


def _profile_facts(path: Path) -> dict[str, Any] | None:
    from fused_encoder_ros.content.summary import summarise

    profile = _profile_in(path)
    return summarise(profile) if profile else None


def _profile_in(path: Path) -> Profile | None:
    from fused_encoder_ros.content.profile import Profile
    from fused_encoder_ros.model.packed_spec import read_packed_profile

    contents = read_packed_profile(path)
    return Profile.from_bytes(contents, str(path)) if contents else None


def _draw(path: Path, picture: Path) -> None:
    from fused_encoder_ros.commands.common import completed_picture
    from fused_encoder_ros.commands.pictures import draw_profile
    from fused_encoder_ros.errors import ConfigError

    profile = _profile_in(path)
    if profile is None:
        raise ConfigError(f'--picture: {path} has no profile to draw; `fused-encoder pack --profile` puts one in')
    with completed_picture('--picture', picture) as file:
        draw_profile(file, profile)


def _parameter_counts(encoder: Encoder) -> dict[str, int]:
    counts = {name: sum(p.numel() for p in child.parameters()) for name, child in encoder.named_children()}
    return {**counts, 'total': sum(counts.values())}


def _golden_error(packed: PackedCheckpoint) -> float:
    import torch

    from fused_encoder_ros.model.engines.eager import EagerEngine

    return packed.golden_error(EagerEngine(packed.encoder, packed.spec, torch.device('cpu')))


def _print_text(facts: dict[str, Any]) -> int:
    import yaml

    print(f'{facts["file"]}: {"packed checkpoint" if facts["packed"] else "state dict"}')
    print(f'  design              {facts["design"]}')
    names = f'  ({", ".join(facts["cameras"])})' if facts['cameras'] else ''
    print(f'  cameras             {facts["camera_count"]}{names}')
    print(f'  joints              {facts["joint_dim"]}')
    print(f'  image feature       {facts["image_feature_dim"]}')
    print(f'  fused feature       {facts["fusion_dim"]}')
    for name, count in facts['parameters'].items():
        print(f'  parameters          {count:>12,}  {name}')
    print(f'  weights, SHA-256    {facts["model_hash"]}')
    if not facts['packed']:
        print('  It does not describe the input it was trained on; write one that does with `fused-encoder pack`.')
        return 0
    print(f'  file, SHA-256       {facts["content_hash"]}')
    print(f'  packed with         fused_encoder_ros {facts["packed_with_version"]}')
    print(f'  golden feature      relative error {facts["golden_error"]:.1e} here (eager on cpu)')
    _print_profile(facts['profile'])
    offsets = ', '.join(f'{source} {ms:+g} ms' for source, ms in facts['stamp_offset_ms'].items())
    print(f'  stamp offsets       {offsets or "none"}')
    print('  observation spec')
    for line in yaml.safe_dump(facts['spec'], sort_keys=False, default_flow_style=None, width=100).splitlines():
        print(f'    {line}')
    return 0


def _print_profile(profile: dict[str, Any] | None) -> None:
    if profile is None:
        print('  profile             none: data are not compared with the training data')
        return
    print(f'  profile             {profile["bags"]} bags, {profile["sets"]} sets, {profile["duration_s"] / 60:.1f} minutes')
    if profile['is_weak']:
        print('                      from only a few bags: only large differences are reported')
    for camera, shows in profile['cameras'].items():
        print(f'    {camera:<17} brightness {shows["brightness"][0]:.0f} to {shows["brightness"][1]:.0f}')
        if offset := profile['offsets'].get(camera):
            told = f'{offset["ms"]:+.0f} ms ± {offset["half_ms"]:.0f} ms relative to the joints, from {offset["bags"]} bags'
            print(f'                      time offset {told}')
        if shows['cannot_tell']:
            print(f'                      cannot detect: {", ".join(shows["cannot_tell"])}')
    for joint, (lowest, highest) in profile['joints'].items():
        print(f'    {joint:<17} {lowest:.2f} to {highest:.2f}')
    if not profile['has_features']:
        print('                      without features')
