"""What a converter of bags to LeRobotDatasets makes of a bag of the synthetic robot, held against the truth.

    python benchmarks/lerobot_converter.py BAG DATA_SET --name NAME --run COMMAND --out results.json

BAG holds the default rig's streams with joints at 500 Hz and VGA images, raw or as JPEG: `fleet.py` writes such bags. COMMAND
makes DATA_SET, and may be of any program; its time and memory are measured. Without it, the data set is taken as it is.
Results of several converters go into one file, by name.

The scene moves, so each picture is looked up among the bag's pictures of its camera. Its true stamp is known then, also after
a lossy video. The joints' true positions at any time follow from the rig. A step's time is the stamp of its anchor picture.
The joints' error in time is the shift along the true path that explains their positions best.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from rosbags.highlevel import AnyReader

from fused_encoder_ros.bench.measuring import describe_machine
from fused_encoder_ros.offline.bag import typestore
from fused_encoder_ros.offline.rig_bag import START_NS
from fused_encoder_ros.pipeline.data import stamp_to_ns
from fused_encoder_ros.spec import CAMERAS
from fused_encoder_ros.synthetic import Rig

ANCHOR = 'global'
LOOK = (160, 120)
"""Width and height at which pictures are held against each other."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('bag', type=Path)
    parser.add_argument('data_set', type=Path)
    parser.add_argument('--name', required=True, help='of the converter, with its version or commit')
    parser.add_argument('--run', help='shell command that makes the data set')
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {'machine': describe_machine()}
    if options.run:
        start = time.perf_counter()
        subprocess.run(options.run, shell=True, check=True)
        result |= {
            'command': options.run,
            'seconds': round(time.perf_counter() - start, 1),
            'peak_mb': round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3),
        }
    result |= compared(options.bag, options.data_set)
    print(json.dumps(result, indent=2))
    if options.out:
        results = json.loads(options.out.read_text()) if options.out.is_file() else {}
        options.out.write_text(json.dumps(results | {options.name: result}, indent=2) + '\n')


class Recorded:
    """The frames of a camera in a bag: stamps int64 [N] from the start of the rig, and how they look, float32 [N,h*w]."""

    def __init__(self, stamps_ns: list[int], looks: list[NDArray[np.float32]]) -> None:
        self.stamps_ns = np.array(stamps_ns)
        self._background = np.mean(looks, axis=0)
        self._looks = np.stack(looks) - self._background
        self._squares = np.square(self._looks).sum(axis=1)

    def stamp_ns(self, picture: NDArray[np.uint8]) -> int:
        """The stamp of a picture: uint8 [H,W,3] RGB.

        Raises:
            ValueError: when none of the bag's is clearly the nearest.
        """
        look = _look(picture) - self._background
        away = self._squares - 2 * self._looks @ look + np.square(look).sum()
        first, second = np.argsort(away)[:2]
        if away[first] > 0.8 * away[second]:
            raise ValueError(f'a picture could be frame {first} or {second}: they are {away[first]} and {away[second]} away')
        return int(self.stamps_ns[first])


def _look(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    small = cv2.resize(np.ascontiguousarray(picture), LOOK, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).reshape(-1), np.float32)


def recorded(bag: Path) -> dict[str, Recorded]:
    """The frames of each camera, in the order of the bag."""
    frames: dict[str, list[tuple[int, NDArray[np.float32]]]] = {camera: [] for camera in CAMERAS}
    with AnyReader([bag], default_typestore=typestore()) as reader:
        images = [c for c in reader.connections if c.topic.split('/')[1] in CAMERAS]
        for connection, _, raw in reader.messages(images):
            message = reader.deserialize(raw, connection.msgtype)
            if hasattr(message, 'format'):
                pixels = cv2.imdecode(message.data, cv2.IMREAD_COLOR)[..., ::-1]
            else:
                pixels = message.data.reshape(message.height, message.width, 3)
            frames[connection.topic.split('/')[1]].append((stamp_to_ns(message.header.stamp) - START_NS, _look(pixels)))
    return {camera: Recorded([ns for ns, _ in rows], [look for _, look in rows]) for camera, rows in frames.items()}


def pictures(data_set: Path, camera: str, info: dict[str, Any]) -> Iterator[NDArray[np.uint8]]:
    """A camera's pictures in the order of the steps: uint8 [H,W,3] RGB."""
    key = f'observation.images.{camera}'
    if info['features'][key]['dtype'] == 'video':
        for file in sorted((data_set / 'videos' / key).rglob('*.mp4')):
            with av.open(file) as video:
                for frame in video.decode(video=0):
                    yield frame.to_ndarray(format='rgb24')
        return
    for file in sorted((data_set / 'data').rglob('*.parquet')):
        for batch in pq.ParquetFile(file).iter_batches(64, columns=[key]):
            for row in batch[key]:
                yield np.asarray(Image.open(io.BytesIO(row['bytes'].as_py())))


def compared(bag: Path, data_set: Path) -> dict[str, Any]:
    """How far pictures and joints of a data set lie from their anchor's stamp."""
    info = json.loads((data_set / 'meta/info.json').read_text())
    rig = Rig(joint_rate_hz=500.0)
    frames = recorded(bag)
    stamps_ns = {
        camera: np.array([frames[camera].stamp_ns(one) for one in pictures(data_set, camera, info)]) for camera in CAMERAS
    }
    anchors_ns = stamps_ns[ANCHOR]
    files = sorted((data_set / 'data').rglob('*.parquet'))
    rows = [
        row for file in files for row in pq.read_table(file, columns=['observation.state'])['observation.state'].to_pylist()
    ]
    names = info['features']['observation.state']['names'] or rig.message_joint_names
    states = np.array(rows, np.float64)[:, [names.index(name) for name in rig.joint_names]]
    if not len(states) == len(anchors_ns) == info['total_frames']:
        raise ValueError(f'{info["total_frames"]} steps, {len(states)} rows, {len(anchors_ns)} pictures of {ANCHOR}')
    errors = states - np.array([rig.joint_positions(int(ns)) for ns in anchors_ns])
    speeds = np.array(
        [(rig.joint_positions(int(ns) + 500_000) - rig.joint_positions(int(ns) - 500_000)) / 1e-3 for ns in anchors_ns]
    )
    late_s = (errors * speeds).sum(axis=1) / (speeds**2).sum(axis=1)
    dtypes = {info['features'][f'observation.images.{camera}']['dtype'] for camera in CAMERAS}
    return {
        'anchors in the bag': len(frames[ANCHOR].stamps_ns),
        'steps': len(anchors_ns),
        'different anchors': len(np.unique(anchors_ns)),
        'seconds by frame rate': round(len(anchors_ns) / info['fps'], 2),
        'seconds by stamps': round((anchors_ns.max() - anchors_ns.min()) / 1e9, 2),
        'pictures as': sorted(dtypes),
        'bytes': sum(file.stat().st_size for file in data_set.rglob('*') if file.is_file()),
        'camera from anchor, ms': {
            camera: _spread(np.abs(stamps_ns[camera] - anchors_ns) / 1e6) for camera in CAMERAS if camera != ANCHOR
        },
        'nearest frame from anchor, ms': {
            camera: _spread(np.abs(frames[camera].stamps_ns - anchors_ns[:, np.newaxis]).min(axis=1) / 1e6)
            for camera in CAMERAS
            if camera != ANCHOR
        },
        'joints from anchor, ms': _spread(np.abs(late_s) * 1e3),
        'joints from truth, mrad': _spread(np.abs(errors).max(axis=1) * 1e3),
    }


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    return {
        'median': round(float(np.median(values)), 3),
        'p95': round(float(np.percentile(values, 95)), 3),
        'worst': round(float(values.max()), 3),
    }


if __name__ == '__main__':
    main()
