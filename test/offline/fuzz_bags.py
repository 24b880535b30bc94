"""Encodes mutated bags in a process whose memory is bounded; prints what became of them as JSON.

    python fuzz_bags.py FOLDER COUNT [FIRST_SEED]

A bag ends as a full account or as a BagError; anything else ends this program with the seed that shows it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from mutated import mutated_bytes
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from fused_encoder_ros.errors import BagError
from fused_encoder_ros.model import load_model
from fused_encoder_ros.offline.bag import Bag, typestore
from fused_encoder_ros.offline.encode import encode_bag
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.synthetic import Rig

SETTINGS = Settings.from_values({'image_size': 8, 'engine': 'eager', 'device': 'cpu', 'threads': 1})
ROS1_BAG = Path(__file__).parent / 'data' / 'wrist_cameras_ros1.bag'
SPARE_BYTES = 2**30
PATIENCE_S = 60


def write_sound_bags(folder: Path) -> list[Path]:
    """One of each kind that is read, small."""
    rig = Rig(width=64, height=48)
    paths = []
    for storage in ('mcap', 'sqlite3'):
        write_rig_bag(folder / storage, rig, 0.5, storage)
        paths.append(folder / storage)
    for mode in (CompressionMode.FILE, CompressionMode.MESSAGE):
        paths.append(folder / f'zstd_{mode.name.lower()}')
        _compress(folder / 'sqlite3', paths[-1], mode)
    return [*paths, ROS1_BAG]


def _compress(source: Path, target: Path, mode: CompressionMode) -> None:
    store = typestore()
    writer = Writer(target, version=8, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer, Bag(source, SETTINGS.topics) as bag:
        connections: dict[str, Any] = {}
        for name, message, recorded_ns in bag.messages():
            kind = message.__msgtype__
            if name not in connections:
                connections[name] = writer.add_connection(SETTINGS.topics[name][0], kind, typestore=store)
            writer.write(connections[name], recorded_ns, store.serialize_cdr(message, kind))


def mutate(bag: Path, rng: random.Random, target: Path) -> Path:
    """A copy with damage: mostly in its storage, sometimes in its metadata, now and then in neither."""
    if bag.is_file():
        files = [Path(shutil.copy(bag, target.with_suffix('.bag')))]
        target = files[0]
    else:
        shutil.copytree(bag, target)
        files = sorted(target.iterdir(), key=lambda path: path.name == 'metadata.yaml')
    if rng.random() < 0.95:
        file = files[-1] if rng.random() < 0.1 else files[0]
        file.write_bytes(mutated_bytes(rng, file.read_bytes()))
    return target


def outcome_of(bag: Path, out: Path, model: Any) -> str:
    """Encode it; asserts that there is a result exactly when there is an account."""
    try:
        summary = encode_bag(bag, out, SETTINGS, model, bag_out=True)
    except BagError:
        assert not out.exists() or not any(out.iterdir()), 'a result of a bag that was refused'
        return 'refused'
    assert summary.anchors == summary.sets + sum(summary.drops.values()) == summary.messages.get('global', 0)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        Path(name).name for name in (summary.output, str(summary.bag_output))
    )
    return 'encoded'


def bound_memory() -> None:
    """From here on this process may take so much more than it has."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limit = pages * os.sysconf('SC_PAGE_SIZE') + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    folder, count, first = Path(sys.argv[1]), int(sys.argv[2]), int((sys.argv[3:] or ['0'])[0])
    bags = write_sound_bags(folder)
    model = load_model(SETTINGS.model, SETTINGS.spec)
    tally: Counter[str] = Counter(f'sound: {outcome_of(bag, folder / f"out_{bag.name}", model)}' for bag in bags)
    (folder / 'damaged').mkdir()
    bound_memory()
    for seed in range(first, first + count):
        signal.alarm(PATIENCE_S)  # which ends this program
        print(f'seed {seed}', file=sys.stderr, flush=True)
        rng = random.Random(seed)
        damaged = mutate(bags[seed % len(bags)], rng, folder / 'damaged' / str(seed))
        tally[outcome_of(damaged, folder / 'out', model)] += 1
        for path in (folder / 'damaged', folder / 'out'):
            shutil.rmtree(path, ignore_errors=True)
        (folder / 'damaged').mkdir()
    print(json.dumps(tally))


if __name__ == '__main__':
    main()
