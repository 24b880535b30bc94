"""`fused-encoder demo`: the synthetic robot and the node as two processes on real DDS, and what came out of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fused_encoder_ros.commands.common import EXIT_FAILED, EXIT_OK, add_cameras
from fused_encoder_ros.pipeline.data import JOINTS, Feature, Observation
from fused_encoder_ros.pipeline.outputs import STAGES
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.settings.dds import keep_to_this_host

if TYPE_CHECKING:
    from fused_encoder_ros.ros.recorder import Recording


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    demo = commands.add_parser(
        'demo',
        help='run the node with a synthetic robot for some seconds, and draw the result',
        description='Run a synthetic robot and the node as two processes over DDS. Print the sets, the drops and the latency, '
        'and write features.parquet, observation.png and features.png. Needs rclpy.',
    )
    demo.add_argument(
        '--out', type=Path, default=Path('demo_out'), metavar='DIR', help='folder for the results (default: demo_out)'
    )
    demo.add_argument(
        '--duration', type=float, default=10.0, metavar='S', help='how long the robot runs, in seconds (default: 10)'
    )
    add_cameras(demo)
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    settings = Settings.from_values({'cameras': options.cameras})
    options.out.mkdir(parents=True, exist_ok=True)
    keep_to_this_host()
    from fused_encoder_ros.ros.recorder import record_demo

    recording = record_demo(options.duration, settings.spec.cameras)
    if not recording.features:
        print('fused-encoder: there is no set; the log of the node above says why', file=sys.stderr)
        return EXIT_FAILED
    _print_table(recording)
    _write(recording, options.out, settings)
    return EXIT_OK


def _print_table(recording: Recording) -> None:
    reports = [recording.sets[stamp] for stamp in sorted(recording.sets)]
    stamps = np.array([report['stamp_ns'] for report in reports])
    rate_hz = (len(stamps) - 1) / ((stamps[-1] - stamps[0]) / 1e9) if len(stamps) > 1 else 0.0
    reasons: dict[str, int] = {}
    for report in recording.drops.values():
        reasons[report['drop']] = reasons.get(report['drop'], 0) + 1
    print(f'\nanchor frames  {len(reports) + len(recording.drops)}')
    print(f'sets           {len(reports)}   ({rate_hz:.1f} per second)')
    print(f'drops          {len(recording.drops)}   {", ".join(f"{k} {v}" for k, v in sorted(reasons.items()))}')
    print('\nlatency (ms)       p50     p95     p99')
    for stage in STAGES:
        values = [report['latency_ms'][stage] for report in reports if stage in report.get('latency_ms', {})]
        if values:
            print(f'  {stage:<12}' + ''.join(f'{p:8.1f}' for p in np.percentile(values, [50, 95, 99])))
    print('  total: from the stamp of the anchor image until its feature is published\n')


def _write(recording: Recording, out: Path, settings: Settings) -> None:
    from fused_encoder_ros.commands.pictures import draw_features, draw_observation
    from fused_encoder_ros.offline.files import completed
    from fused_encoder_ros.offline.formats.parquet import ParquetSink

    spec, anchor = settings.spec, settings.sync.anchor
    followers = [source for source in (*spec.cameras, JOINTS) if source != anchor]
    stamps = sorted(recording.features.keys() & recording.sets.keys())
    features = np.stack([recording.features[stamp] for stamp in stamps])
    outputs = {name: out / name for name in ('features.parquet', 'observation.png', 'features.png')}
    with completed(outputs, force=True) as files:
        with ParquetSink(files['features.parquet'], spec, {'source': 'demo'}, features.shape[1]) as sink:
            for stamp in stamps:
                sink.write(_feature(recording, stamp))
        shown = min(recording.montages.keys() & set(stamps), key=lambda stamp: abs(stamp - stamps[len(stamps) // 2]))
        stamps_ns = recording.sets[shown]['stamps_ns']
        draw_observation(files['observation.png'], recording.montages[shown], spec.cameras, stamps_ns, anchor)
        reports = [recording.sets[stamp] for stamp in stamps]
        draw_features(
            files['features.png'],
            np.array(stamps),
            features,
            {source: np.array([report['skew_ms'][source] for report in reports]) for source in followers},
            np.array([report['latency_ms']['total'] for report in reports]),
            sorted(recording.drops),
            f'{len(stamps)} fused features of {features.shape[1]} dimensions, live on DDS (random weights)',
        )
    for path in outputs.values():
        print(f'wrote {path}')


def _feature(recording: Recording, stamp: int) -> Feature:
    report = recording.sets[stamp]
    positions = np.array(report['joint_positions'])
    images = np.empty((0, 0, 0), np.uint8)  # a feature file holds no images
    observation = Observation(stamp, images, positions.astype(np.float32), positions, report['stamps_ns'])
    return Feature(recording.features[stamp], observation)
