"""Encoding bags: each stage alone, the whole, one process and two, memory, and what one would do without this package.

    python benchmarks/fleet.py --out benchmarks/results/fleet.json
    python benchmarks/fleet.py --memory-only --minutes 1 5 30 --out benchmarks/results/fleet_memory.json

Bags of the synthetic robot, three VGA cameras at 30 Hz and joints at 500 Hz, raw and as JPEG. Every figure is the median of
rounds in which the subjects take turns. The plain loop reads the bag with rosbags, takes the last picture of each camera when
a global one comes, resizes it and calls the encoder in eager torch. "encode, beside another process that observes" has
nothing of the overlap but the machine: the other process reads, decodes and synchronises the same bag over and over, and
what encoding takes longer is the price of shared caches and memory. Memory is the highest resident size of a process of its
own, of which some is there before the bag.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rosbags.highlevel import AnyReader

from fused_encoder_ros.bench.measuring import describe_machine
from fused_encoder_ros.model import ImageJointEncoder, load_model
from fused_encoder_ros.offline.bag import Bag, BagWriter, typestore
from fused_encoder_ros.offline.encode import encode_bag
from fused_encoder_ros.offline.observations import outcomes_of
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.pipeline.data import JOINTS, Observation
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.spec import CAMERAS
from fused_encoder_ros.synthetic import Rig

SECONDS = 20.0
BAGS = 8
COMPRESSED = 'sensor_msgs/msg/CompressedImage'

PEAK = """
import sys
from pathlib import Path
from fused_encoder_ros.model import load_model
from fused_encoder_ros.offline.encode import encode_bag
from fused_encoder_ros.settings import Settings

def mb(key):
    return int(Path('/proc/self/status').read_text().split(key + ':')[1].split()[0]) / 1e3

import json
settings = Settings.from_values(json.loads(sys.argv[3]))
model = load_model(settings.model, settings.spec)
before = mb('VmRSS')
summary = encode_bag(Path(sys.argv[1]), Path(sys.argv[2]), settings, model)
print(json.dumps({'sets': summary.sets, 'before_mb': before, 'peak_mb': mb('VmHWM')}))
"""


OBSERVE = """
import json
import sys
from pathlib import Path
from fused_encoder_ros.offline.observations import read_observations
from fused_encoder_ros.settings import Settings

settings = Settings.from_values(json.loads(sys.argv[2]))
while True:
    for _ in read_observations(Path(sys.argv[1]), settings):
        pass
    print('once', flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--minutes', type=float, nargs='*', default=[1.0, 5.0], help='lengths of the bags for memory')
    parser.add_argument('--memory-only', action='store_true')
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {'command': shlex.join(['python', *sys.argv]), 'machine': describe_machine()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ('raw', 'jpeg'):
            (folder / kind).mkdir()
        write_rig_bag(folder / 'raw/0', Rig(joint_rate_hz=500.0), SECONDS)
        write_jpeg(folder / 'raw/0', folder / 'jpeg/0', 1)
        if not options.memory_only:
            result |= speed(folder, options.rounds)
        shutil.rmtree(folder / 'raw')
        result['memory'] = {f'{minutes:g} minutes, JPEG': memory(folder, minutes) for minutes in options.minutes}
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + '\n')


def speed(folder: Path, rounds: int) -> dict[str, Any]:
    """What became of one bag and of several, raw and as JPEG."""
    result: dict[str, Any] = {}
    for kind in ('raw', 'jpeg'):
        one = one_bag(folder / kind / '0', folder, rounds)
        for number in range(1, BAGS):
            shutil.copytree(folder / kind / '0', folder / kind / str(number), copy_function=os.link)
        result[kind] = {**one, f'{BAGS} bags': workers(folder / kind, folder, rounds)}
        print(json.dumps({kind: result[kind]}, indent=2), flush=True)
    return result


def memory(folder: Path, minutes: float) -> dict[str, float]:
    """Memory that a process takes for a bag of JPEG of this length."""
    long = folder / 'long'
    write_jpeg(folder / 'jpeg/0', long, round(minutes * 60 / SECONDS))
    command = [sys.executable, '-c', PEAK, str(long), str(folder / 'out'), json.dumps(parameters('jpeg', 2))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.rmtree(long)
    shutil.rmtree(folder / 'out')
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({f'{minutes:g} minutes': result}), flush=True)
    return result


def write_jpeg(source: Path, target: Path, laps: int) -> None:
    """The same bag with its pictures as JPEG, several times over; the stamps go on."""
    messages = []
    with AnyReader([source], default_typestore=typestore()) as reader:
        kinds = {}
        for connection, recorded_ns, raw in reader.messages():
            message, topic, kind = reader.deserialize(raw, connection.msgtype), connection.topic, connection.msgtype
            if kind == 'sensor_msgs/msg/Image':
                pixels = message.data.reshape(message.height, message.width, 3)
                jpeg = cv2.imencode('.jpg', pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
                make = typestore().types[COMPRESSED]
                message, topic, kind = (
                    make(header=message.header, format='rgb8; jpeg compressed bgr8', data=jpeg),
                    f'{topic}/compressed',
                    COMPRESSED,
                )
            kinds[topic] = kind
            messages.append((topic, message, recorded_ns))
        span_ns = reader.duration + 2_000_000
    with BagWriter(target, 'mcap', kinds) as writer:
        for lap in range(laps):
            for topic, message, recorded_ns in messages:
                stamp = message.header.stamp
                ns = stamp.sec * 10**9 + stamp.nanosec + lap * span_ns
                later = dataclasses.replace(stamp, sec=ns // 10**9, nanosec=ns % 10**9)
                shown = dataclasses.replace(message, header=dataclasses.replace(message.header, stamp=later))
                writer.write(topic, shown, recorded_ns + lap * span_ns)


def parameters(kind: str, threads: int) -> dict[str, Any]:
    topics = {f'topics.{camera}': f'/{camera}/image/compressed' for camera in CAMERAS} if kind == 'jpeg' else {}
    return {'threads': threads, **topics}


@contextmanager
def observer(bag: Path, threads: int) -> Iterator[subprocess.Popen[str]]:
    """A process that reads, decodes and synchronises a bag over and over; it is stopped, until it is told to continue."""
    command = [sys.executable, '-c', OBSERVE, str(bag), json.dumps(parameters(bag.parent.name, threads))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        try:
            yield process
        finally:
            process.kill()


def one_bag(bag: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Sets a second of each stage alone and of the whole, for one and two threads of the encoder."""
    kind = bag.parent.name
    size = sum(file.stat().st_size for file in bag.iterdir())
    result: dict[str, Any] = {'gb': round(size / 1e9, 3)}
    for threads in (1, 2):
        settings = Settings.from_values(parameters(kind, threads))
        model = load_model(settings.model, settings.spec)
        with Bag(bag, settings.topics) as opened:
            sets = [o for o in outcomes_of(opened, settings.pipeline()) if isinstance(o, Observation)]

        def read() -> None:
            with Bag(bag, settings.topics) as opened:  # noqa: B023
                for _ in opened.messages():
                    pass

        def observe() -> None:
            with Bag(bag, settings.topics) as opened:  # noqa: B023
                for _ in outcomes_of(opened, settings.pipeline()):  # noqa: B023
                    pass

        def encode() -> None:
            for one in sets:  # noqa: B023
                model.encode(one.images[np.newaxis], one.joints[np.newaxis])  # noqa: B023

        def encode_beside() -> None:
            other.send_signal(signal.SIGCONT)
            encode()
            other.send_signal(signal.SIGSTOP)

        def whole(batch_size: int = 1) -> None:
            encode_bag(bag, folder / 'out', settings, model, force=True, batch_size=batch_size)  # noqa: B023

        def one_after_the_other() -> None:
            pipeline = settings.pipeline()  # noqa: B023
            with Bag(bag, settings.topics) as opened:  # noqa: B023
                for source, message, _ in opened.messages():
                    for outcome in pipeline.push(source, message):
                        if isinstance(outcome, Observation):
                            model.encode(outcome.images[np.newaxis], outcome.joints[np.newaxis])  # noqa: B023

        subjects: dict[str, Callable[[], None]] = {
            'read': read,
            'read, decode, synchronise': observe,
            'encode': encode,
            'encode, beside another process that observes': encode_beside,
            'whole': whole,
            'whole, one stage after the other': one_after_the_other,
            'whole, batches of 16': lambda: whole(16),
        }
        if threads == 2:
            torch.set_num_threads(2)
            subjects['plain loop'] = lambda: plain_loop(bag)
        with observer(bag, threads) as other:
            seconds, cpu_seconds = taking_turns(subjects, rounds)
        rates = {name: round(len(sets) / value, 1) for name, value in seconds.items()}
        result[f'{threads} thread(s)'] = {
            'engine': model.engine.name,
            'sets': len(sets),
            'sets/s': rates,
            'cpu seconds': {name: round(value, 2) for name, value in cpu_seconds.items()},
            'whole to slowest stage': round(rates['whole'] / min(rates['read, decode, synchronise'], rates['encode']), 2),
            'cores used by the whole': round(cpu_seconds['whole'] / seconds['whole'], 2),
            'minutes a GB': round(seconds['whole'] / 60 / (size / 1e9), 3),
        }
        shutil.rmtree(folder / 'out', ignore_errors=True)
    return result


def taking_turns(subjects: dict[str, Callable[[], None]], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Medians of seconds, and of seconds of CPU."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, call in subjects.items():
            start, cpu = time.perf_counter(), time.process_time()
            call()
            times[name].append((time.perf_counter() - start, time.process_time() - cpu))
    medians = {name: np.median(rows, axis=0) for name, rows in times.items()}
    return {name: float(row[0]) for name, row in medians.items()}, {name: float(row[1]) for name, row in medians.items()}


@torch.inference_mode()
def plain_loop(bag: Path) -> None:
    """What one writes in an hour: the last picture of each camera, the last joints, eager torch."""
    encoder = ImageJointEncoder().eval()
    pictures: dict[str, np.ndarray] = {}
    joints = np.zeros(16, np.float32)
    with AnyReader([bag], default_typestore=typestore()) as reader:
        for connection, _, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            source = connection.topic.split('/')[1]
            if source == JOINTS:
                joints = np.array(message.position[:16], np.float32)
                continue
            if connection.msgtype == COMPRESSED:
                pixels = cv2.imdecode(message.data, cv2.IMREAD_COLOR)[..., ::-1]
            else:
                pixels = message.data.reshape(message.height, message.width, 3)
            pictures[source] = cv2.resize(np.ascontiguousarray(pixels), (84, 84))
            if source == 'global' and len(pictures) == len(CAMERAS):
                images = [torch.from_numpy(pictures[camera]).permute(2, 0, 1)[np.newaxis].float() / 255 for camera in CAMERAS]
                encoder(*images, torch.from_numpy(joints)[np.newaxis]).numpy()


def workers(bags: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Several bags by the command, as it is run, start and loading of the model included."""
    size = sum(file.stat().st_size for file in bags.rglob('*') if file.is_file())
    topics = [f'--set={name}={value}' for name, value in parameters(bags.name, 1).items()]
    every_core = sorted(os.sched_getaffinity(0))
    subjects = {
        'one worker on one core': (1, every_core[:1]),
        'one worker': (1, every_core),
        'two workers': (2, every_core),
    }
    times: dict[str, list[float]] = {name: [] for name in subjects}
    sets = 0
    for _ in range(rounds):
        for name, (count, cores) in subjects.items():
            start = time.perf_counter()
            pinned = ['taskset', '--cpu-list', ','.join(map(str, cores))]
            command = [sys.executable, '-m', 'fused_encoder_ros', 'encode', str(bags), '--out', str(folder / 'out'), '--json']
            done = subprocess.run(
                [*pinned, *command, f'--workers={count}', *topics], capture_output=True, text=True, check=True
            )
            times[name].append(time.perf_counter() - start)
            sets = sum(one['sets'] for one in json.loads(done.stdout))
            shutil.rmtree(folder / 'out')
    seconds = {name: float(np.median(values)) for name, values in times.items()}
    return {
        'sets': sets,
        'gb': round(size / 1e9, 2),
        'threads a worker': 1,
        'seconds': {name: round(value, 2) for name, value in seconds.items()},
        'two workers on two cores against one on one': round(seconds['one worker on one core'] / seconds['two workers'], 2),
        'minutes a GB, two workers': round(seconds['two workers'] / 60 / (size / 1e9), 3),
    }


if __name__ == '__main__':
    main()
