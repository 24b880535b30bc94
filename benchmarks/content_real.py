"""How well faults in what the data show are found in recordings of real robots, and how many false alarms there are.

python benchmarks/content_real.py RECORDINGS --out benchmarks/results/content_real.json    # four minutes of two cores

RECORDINGS holds a clone of each of these public repositories, under the name that the repository has. They are data sets in
LeRobot's layout, with a video and a table for each episode; some files are absent from some mirrors, and are left out.

- https://github.com/YifanTian07/G1-policy-train (d1d3bb4): a Unitree G1 with two hands moves a can; the camera of its head
- https://github.com/yipiandanxinxiangyangkai/open_50 (6fbd828): two arms operate a control cabinet; a camera above them
- https://github.com/WangzyNicole/Bimanual-Cloth-Manipulation (4c2af68): two SO-101 arms fold a cloth; a camera at each wrist

The episodes of a robot are divided into four parts, in the order of recording. A reference is learnt from three, and tested on
the fourth. So test data are of another hour, and maybe of other light or a robot that stands elsewhere. Each fault is put into
20 s from the begin of each test episode; the episodes that follow continue it. What is told without the fault, too, does not
count as found. The whole part as it is gives the false alarms.

Last, every episode is held against the profile of all, as `fused-encoder profile` does, with those that are left out before.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'test' / 'content')]

import av  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import scenes  # noqa: E402
from content import recognised  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from fused_encoder_ros.bench.measuring import describe_machine  # noqa: E402
from fused_encoder_ros.content.hypotheses import of_joints  # noqa: E402
from fused_encoder_ros.content.judgement import judge  # noqa: E402
from fused_encoder_ros.content.profile import merge  # noqa: E402
from fused_encoder_ros.content.reference import Reference  # noqa: E402
from fused_encoder_ros.content.watch import Watcher  # noqa: E402
from fused_encoder_ros.pipeline.data import JOINTS, Observation  # noqa: E402
from fused_encoder_ros.spec import ObservationSpec  # noqa: E402

_PARTS = 4
_TRIAL_S = 20.0
_GAP_S = 3.0
"""Between episodes that are joined: in reality somebody puts the things back."""

Episode = list[Observation]


@dataclass(frozen=True)
class Robot:
    """Where the data of a robot lie in its repository, with # for the number of the episode.

    Attributes:
        table: of the joints; `state` is the column, and `joints` names its first values.
        videos: by camera.
        to_radians: what the positions are multiplied by, after `zero` is taken off.
        left_out: episodes that are faulty as recorded.
    """

    fps: int
    table: str
    state: str
    joints: tuple[str, ...]
    videos: Mapping[str, str]
    to_radians: float = 1.0
    zero: float = 0.0
    left_out: tuple[int, ...] = ()

    @property
    def spec(self) -> ObservationSpec:
        """What its observations are like."""
        return ObservationSpec(cameras=tuple(self.videos), joint_names=self.joints)


def _of_both(names: str, sides: Sequence[str] = ('left', 'right')) -> tuple[str, ...]:
    return tuple(f'{side}_{name}' for side in sides for name in names.split())


_ARM = 'shoulder_pitch shoulder_roll shoulder_yaw elbow wrist_roll wrist_pitch wrist_yaw'
ROBOTS = {
    'G1-policy-train': Robot(
        fps=30,
        table='data/chunk-000/episode_#.parquet',
        state='observation.state',
        joints=(*_of_both(_ARM), *_of_both('pinky ring middle index thumb_bend thumb_rotation')),
        videos={'global': 'videos/chunk-000/observation.images.cam_high/episode_#.mp4'},
    ),
    'open_50': Robot(
        fps=30,
        table='data/chunk-000/file-#.parquet',
        state='state',
        joints=_of_both(' '.join(f'joint_{i}' for i in range(1, 8))),
        videos={'global': 'video/image/chunk-000/file-#.mp4'},
        to_radians=math.pi / 180,
    ),
    'Bimanual-Cloth-Manipulation': Robot(
        fps=20,
        table='dataset/data/chunk-000/episode_#.parquet',
        state='observation.state',
        joints=_of_both(' '.join(f'joint_{i}' for i in range(1, 7)), ('right', 'left')),
        videos={
            'left_wrist': 'dataset/videos/chunk-000/observation.images.cam1/episode_#.mp4',
            'right_wrist': 'dataset/videos/chunk-000/observation.images.cam0/episode_#.mp4',
        },
        to_radians=2 * math.pi / 4096,
        zero=2048,
        left_out=(0,),  # its right camera is black
    ),
}


def episodes_of(folder: Path, robot: Robot) -> Iterator[Episode]:
    """Those that have all their files, in order."""
    before, after = robot.table.split('#')
    for table in sorted(folder.glob(robot.table.replace('#', '*'))):
        number = str(table)[len(str(folder / before)) : -len(after)]
        videos = {camera: folder / path.replace('#', number) for camera, path in robot.videos.items()}
        if int(number) not in robot.left_out and all(video.is_file() for video in videos.values()):
            yield observations_of(table, videos, robot)


def observations_of(table: Path, videos: Mapping[str, Path], robot: Robot) -> Episode:
    """One episode at the rate at which the watcher looks."""
    every = int(robot.fps / scenes.RATE_HZ)
    states = np.array(pq.read_table(table)[robot.state].to_pylist(), np.float64)[::every, : len(robot.joints)]
    positions = (states - robot.zero) * robot.to_radians
    pictures = [pictures_of(videos[camera], every) for camera in robot.spec.cameras]
    made = []
    for number in range(len(positions)):
        stamp_ns = int(number * 1e9 / scenes.RATE_HZ)
        images = np.concatenate([of_camera[number] for of_camera in pictures], axis=2)
        joints = positions[number].astype(np.float32)
        stamps = dict.fromkeys((*robot.spec.cameras, JOINTS), stamp_ns)
        made.append(Observation(stamp_ns, images, joints, positions[number], stamps))
    return made


def pictures_of(video: Path, every: int) -> list[NDArray[np.uint8]]:
    """Some frames of a video, as the encoder gets them."""
    with av.open(str(video)) as container:
        frames = (frame for number, frame in enumerate(container.decode(video=0)) if number % every == 0)
        return [np.asarray(cv2.resize(frame.to_ndarray(format='rgb24'), (84, 84)), np.uint8) for frame in frames]


def joined(episodes: Sequence[Episode]) -> Episode:
    """Episodes one after another."""
    made: Episode = []
    begin_ns = 1_000_000_000
    for episode in episodes:
        made += [replace(observation, stamp_ns=begin_ns + observation.stamp_ns) for observation in episode]
        begin_ns = made[-1].stamp_ns + int(_GAP_S * 1e9)
    return made


def faults_of(robot: Robot, reference: Reference) -> Iterator[tuple[str, str, str, scenes.Change]]:
    """Name, the source and the fault that is right, and the change."""
    cameras = robot.spec.cameras
    for name, change in scenes.FAULTS_OF_PICTURES.items():
        for camera in cameras:
            yield f'{name}: {camera}', camera, name, change(camera)
    for one, other in combinations(cameras, 2):
        yield f'exchanged: {one} and {other}', one, 'exchanged', scenes.exchanged(one, other)
    made = {one.fault: one.made for one in of_joints(robot.joints) if len(one.joints) == len(robot.joints)}
    for fault in ('degrees', 'arms_exchanged'):
        yield f'{fault}: joints', JOINTS, fault, scenes.of_joints(made[fault])
    # Of the joint that moves most.
    busiest = int(np.argmax(reference.profile.highest - reference.profile.lowest))
    yield 'scaled: joints', JOINTS, 'scaled', scenes.times(busiest, 100.0)
    if reference.always_move[busiest]:
        yield 'stuck: joints', JOINTS, 'stuck', scenes.stuck(busiest)


@dataclass
class Tested:
    """What one part gave.

    Attributes:
        faults: for each fault, by trial: whether it was found, whether it was named rightly in time, and after how many s.
        sound_s: how long the part is.
        alarms: how often each fault was told of it as it is.
    """

    faults: dict[str, list[tuple[bool, bool, float]]]
    sound_s: float
    alarms: Counter[str]


def tested(robot: Robot, training: Sequence[Episode], part: Sequence[Episode]) -> Tested:
    """Learn from some episodes, and test on others."""
    cv2.setNumThreads(1)
    reference = Reference(merge([scenes.profile_of(episode, robot.spec) for episode in training]))
    results = defaultdict(list)
    for first in range(len(part)):
        trial = joined([*part[first:], *part[:first]])
        trial = [o for o in trial if o.stamp_ns - trial[0].stamp_ns <= _TRIAL_S * 1e9]
        sound = {fault.key for fault in scenes.faults_in(reference, trial, scenes.unchanged)[0]}
        # Made for each trial, since some of the changes keep the first picture or position.
        for name, source, right, change in faults_of(robot, reference):
            changed = [change(observation) for observation in trial]
            results[name].append(recognised(reference, changed, name, source, right, sound))
    return Tested(results, sum(map(len, part)) / scenes.RATE_HZ, alarms_in(reference, joined(part)))


def alarms_in(reference: Reference, observations: Episode) -> Counter[str]:
    """How often each fault begins to be told."""
    watcher, alarms, before = Watcher(reference), Counter[str](), set[tuple[str, str, str]]()
    for observation in observations:
        now = {fault.key for fault in watcher.see(observation)}
        alarms.update(f'{source}: {fault}' for source, fault, _ in now - before)
        before = now
    return alarms


def odd_episodes(robot: Robot, folder: Path) -> dict[int, list[str]]:
    """By the number of the episode, what is told of those that do not look like the others."""
    whole = replace(robot, left_out=())
    profiles = [scenes.profile_of(episode, robot.spec) for episode in episodes_of(folder, whole)]
    reference = Reference(merge(profiles))
    told = {number: [str(fault) for fault in judge(one.looks(), reference)] for number, one in enumerate(profiles)}
    return {number: faults for number, faults in told.items() if faults}


def parts_of(episodes: Sequence[Episode]) -> Iterator[tuple[list[Episode], list[Episode]]]:
    """Training and test episodes, by the part that is held out."""
    limits = [len(episodes) * number // _PARTS for number in range(_PARTS + 1)]
    for begin, end in pairwise(limits):
        yield [*episodes[:begin], *episodes[end:]], list(episodes[begin:end])


def of_robot(name: str, folder: Path, processes: int) -> dict[str, Any]:
    """Measure one robot, print, and give the results."""
    robot = ROBOTS[name]
    episodes = list(episodes_of(folder, robot))
    with ProcessPoolExecutor(processes) as pool:
        parts = list(zip(*parts_of(episodes)))
        results = list(pool.map(tested, [robot] * _PARTS, *parts))
    table = {}
    for fault in {fault: None for result in results for fault in result.faults}:
        trials = [trial for result in results for trial in result.faults.get(fault, [])]
        found, named, seconds = zip(*trials)
        table[fault] = {
            'trials': len(trials),
            'found': float(np.mean(found)),
            'named_in_time': float(np.mean(named)),
            'seconds_p50': float(np.median(seconds)) if np.isfinite(np.median(seconds)) else None,
        }
    alarms = sum((result.alarms for result in results), Counter[str]())
    hours = sum(result.sound_s for result in results) / 3600
    print(f'{name}: {len(episodes)} episodes, {60 * hours:.1f} min')
    for fault, row in table.items():
        print(f'  {fault:40} found {row["found"]:.0%}  named in time {row["named_in_time"]:.0%}  after {row["seconds_p50"]} s')
    print(f'  {sum(alarms.values())} false alarms, {sum(alarms.values()) / hours:.1f} an hour: {dict(alarms)}')
    odd = odd_episodes(robot, folder)
    print(f'  unlike the others: {odd}')
    return {
        'episodes': len(episodes),
        'hours': hours,
        'faults': table,
        'false_alarms': dict(alarms),
        'false_alarms_by_part': [dict(result.alarms) for result in results],
        'unlike_the_others': odd,
    }


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('recordings', type=Path, help='folder that holds the repositories')
    parser.add_argument('--processes', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--out', type=Path, help='file for the results, JSON')
    options = parser.parse_args()
    robots = {name: of_robot(name, options.recordings / name, options.processes) for name in ROBOTS}
    if options.out:
        result = {'machine': describe_machine(), 'parts': _PARTS, 'robots': robots}
        options.out.write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    main()
