"""Decoding compressed cameras: what a reduced-size JPEG decode would save, and what it would change.

    python benchmarks/compressed_images.py --out benchmarks/results/compressed_images.json

OpenCV can decode a JPEG at a half, a quarter or an eighth of its size. The pixels are then averages of blocks, while
training resized the whole image; `pixels` and `feature` say how far that is from the full decode. A photograph, as matplotlib
brings one, stands for the camera.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import cv2
import matplotlib.cbook
import numpy as np

from fused_encoder_ros.bench.measuring import describe_machine, interleaved
from fused_encoder_ros.model import ModelOptions, load_model
from fused_encoder_ros.model.engines.engine import relative_error
from fused_encoder_ros.spec import ObservationSpec

SIZES = ((640, 480), (1280, 720), (1920, 1080))
REDUCED = {
    'full': cv2.IMREAD_COLOR,
    'half': cv2.IMREAD_REDUCED_COLOR_2,
    'quarter': cv2.IMREAD_REDUCED_COLOR_4,
    'eighth': cv2.IMREAD_REDUCED_COLOR_8,
}
QUALITY = 80
"""Of image_transport's JPEGs, by default."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=50)
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    spec = ObservationSpec()
    with matplotlib.cbook.get_sample_data('grace_hopper.jpg') as stream:
        photograph = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_COLOR)
    model = load_model(ModelOptions(engine='eager'), spec)
    side = (spec.image_size, spec.image_size)
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        raw = cv2.resize(photograph, size, interpolation=cv2.INTER_CUBIC)
        jpeg = cv2.imencode('.jpg', raw, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        png = cv2.imencode('.png', raw)[1]
        calls = {f'JPEG {name}': _decoding(jpeg, flag, side) for name, flag in REDUCED.items()}
        calls |= {'PNG full': _decoding(png, cv2.IMREAD_COLOR, side), 'raw': lambda raw=raw: cv2.resize(raw, side)}
        times = interleaved(calls, options.rounds)
        features = {
            name: model.encode(np.tile(call(), 3)[np.newaxis], np.zeros((1, 16), np.float32)) for name, call in calls.items()
        }
        reference = calls['JPEG full']().astype(int)
        for name, call in calls.items():
            error = np.abs(call().astype(int) - reference)
            rows.append(
                {
                    'size': f'{size[0]}×{size[1]}',
                    'decode': name,
                    'bytes': {'J': jpeg.size, 'P': png.size, 'r': raw.size}[name[0]],
                    'median_ms': float(np.median(times[name])),
                    'of_full_jpeg': float(np.median(times[name] / times['JPEG full'])),
                    'pixels_mean_error': float(error.mean()),
                    'pixels_p99_error': float(np.percentile(error, 99)),
                    'feature_relative_error': float(relative_error(features[name], features['JPEG full'])),
                }
            )
    result = {
        'command': shlex.join(['python', *sys.argv]),
        'machine': describe_machine() | {'opencv': cv2.__version__},
        'jpeg_quality': QUALITY,
        'rows': rows,
    }
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if options.out:
        options.out.write_text(text + '\n')


def _decoding(data: np.ndarray, flag: int, side: tuple[int, int]) -> Any:
    return lambda: cv2.resize(cv2.imdecode(data, flag), side)


if __name__ == '__main__':
    main()
