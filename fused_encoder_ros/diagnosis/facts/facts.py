"""Everything that is known about how well a robot's messages synchronise, in numbers of bounded size."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import cv2
import numpy as np

from fused_encoder_ros import __version__
from fused_encoder_ros.content.inspector import told_of, watcher_of
from fused_encoder_ros.content.offsets import Offset, OffsetMeter
from fused_encoder_ros.content.profile import TrainedOffset
from fused_encoder_ros.content.watch import Told
from fused_encoder_ros.diagnosis.facts.matching import SetSkew, Skews, WhatIf, bracket, match, skews, what_if
from fused_encoder_ros.diagnosis.facts.recording import SET, Recording, Sample, Stamps, Subject, as_stamps, record
from fused_encoder_ros.diagnosis.facts.streams import Steps, Stream, describe_stream
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.pipeline.pipeline import Counts
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.settings.topics import Topic

_BIN_WIDTHS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
_MOST_BINS = 150
_PERIODS_A_BIN = 6
"""With fewer, a healthy camera's bins would differ by a frame and look ragged."""

_LISTED = 150
"""Names and topics that are listed; a bag may hold any number."""


@dataclass(frozen=True)
class JointGroup:
    """Joints that come in the same messages.

    Attributes:
        names: those of the spec that they bring.
        messages: how many.
        steps: period and gaps; None for fewer than two messages.
        age_p99_ms: 99th percentile, over the anchor frames between samples, of the further of the two samples around.
    """

    names: list[str]
    messages: int
    steps: Steps | None
    age_p99_ms: float | None


@dataclass(frozen=True)
class Joints:
    """How the published joints cover the spec's: those that come together, those missing, and those of other names."""

    groups: list[JointGroup]
    missing: list[str]
    extra: list[str]


@dataclass(frozen=True)
class Timeline:
    """What happened when: messages by source, and anchor frames by `SET` or reason of their drop, in each bin."""

    bin_s: float
    messages: dict[str, list[int]]
    anchors: dict[str, list[int]]


@dataclass(frozen=True)
class Facts:
    """The facts of one bag, or of a robot listened to for a while.

    Attributes:
        bag: its path; empty when the messages came live.
        begin_ns: time of recording of the first message of the sources; 0 when there is none.
        duration_s: from the first to the last message of the sources.
        topics: every topic that there is, as far as they are listed.
        streams: each source.
        offered: reliability of the publishers by source, where it is known.
        unreached: sources of a robot whose publishers are found, but from which nothing arrives.
        joints: coverage of the joints.
        counts: what the pipeline made of the messages.
        ramp_up: anchor frames that were dropped before the first set.
        details: the last sentence for each reason of a drop or reject.
        skews: by follower camera.
        worst_skew_ms: by source, the largest skew in a set.
        offsets: by camera, how its corrected stamps lie to those of the joints.
        trained_offsets: the same in training, as far as the profile of the checkpoint tells it.
        what_if: sets at other tolerances and with other anchors.
        timeline: what happened when.
        samples: sets from along the bag.
        settings: the parameters.
        content: what is wrong with what the data show, by the profile of the checkpoint; None where it has none.
        versions: of the programs involved.
    """

    bag: str
    begin_ns: int
    duration_s: float
    topics: list[Topic]
    streams: dict[str, Stream]
    offered: dict[str, list[str]]
    unreached: list[str]
    joints: Joints
    counts: Counts
    ramp_up: int
    details: dict[str, str]
    skews: dict[str, Skews]
    worst_skew_ms: dict[str, float]
    offsets: dict[str, Offset]
    trained_offsets: dict[str, TrainedOffset]
    what_if: WhatIf
    timeline: Timeline
    samples: list[Sample]
    settings: Settings
    content: list[Told] | None
    versions: dict[str, str]

    @property
    def noun(self) -> str:
        """What the facts are of, in a word."""
        return 'bag' if self.bag else 'robot'

    @property
    def anchor(self) -> str:
        """The anchor camera's name."""
        return self.settings.sync.anchor

    @property
    def tolerance_ms(self) -> float:
        """The tolerance in use."""
        return self.settings.sync.tolerance_ns / 1e6

    @property
    def jumps(self) -> bool:
        """Whether a clock jumped back: stamps alone then do not say what was recorded together."""
        return any(1e6 * stream.furthest_back_ms > self.settings.sync.horizon_ns for stream in self.streams.values())

    @property
    def loses_frames(self) -> bool:
        """Whether a camera has holes."""
        return any(s.steps is not None and s.steps.lost > 0 for source, s in self.streams.items() if source != JOINTS)

    @property
    def share(self) -> float:
        """Share of anchor frames that became sets; those that a bag's two ends cost every time are left aside."""
        ends = self.ramp_up + self.counts.drops['end_of_stream']
        return self.counts.sets / (self.counts.anchors - ends) if self.counts.sets else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; samples without their pixels."""
        names = (field.name for field in fields(self) if field.name not in ('samples', 'settings'))
        return {
            **{name: _plain(getattr(self, name)) for name in names},
            'share': self.share,
            'samples': [{'at_ns': sample.at_ns, 'stamps_ns': sample.stamps_ns} for sample in self.samples],
            'parameters': dict(self.settings.values),
        }


def gather(subject: Subject, settings: Settings, progress: Callable[[int, int], None] = lambda done, total: None) -> Facts:
    """Push the messages once through the pipeline and describe what came of it. What is lacking is described too.

    Raises:
        BagError: when the bag ends in the middle.
    """
    pipeline, meter = settings.pipeline(), OffsetMeter(settings.spec.cameras)
    offsets_ns = {source: settings.sync.stamp_offsets_ns.get(source, 0) for source in pipeline.sources}
    pipeline.watch_motion(meter)
    recording = record(subject, pipeline, progress)
    watcher = watcher_of(pipeline)
    tracks = recording.tracks
    begin_ns = min((track.recorded[0] for track in tracks.values() if track.recorded), default=0)
    end_ns = max((track.recorded[-1] for track in tracks.values() if track.recorded), default=0)
    streams = {
        source: describe_stream(
            source,
            settings.topics[source],
            subject.kinds.get(source, ''),
            subject.lacks.get(source, ''),
            track,
            begin_ns,
            offsets_ns[source],
        )
        for source, track in tracks.items()
    }
    cameras = {camera: tracks[camera].usable + offsets_ns[camera] for camera in settings.spec.cameras}
    anchor, tolerance_ms = settings.sync.anchor, settings.sync.tolerance_ns / 1e6
    groups = {names: stamps + offsets_ns[JOINTS] for names, stamps in _joint_groups(recording, settings).items()}
    covered = {name for names in groups for name in names}
    missing = [name for name in settings.spec.joint_names if name not in covered]
    matchings = {
        camera: match(
            camera, cameras, [np.unique(stamps) for stamps in groups.values()], settings.sync.joint_max_age_ns, not missing
        )
        for camera in settings.spec.cameras
    }
    in_sets = {source: as_stamps(numbers) for source, numbers in recording.skews.items()}
    compared = {
        camera: skews(stamps, cameras[anchor], in_sets.get(camera, np.empty(0, np.int64)), tolerance_ms)
        for camera, stamps in cameras.items()
        if camera != anchor
    }
    return Facts(
        bag=str(subject.path or ''),
        begin_ns=begin_ns,
        duration_s=(end_ns - begin_ns) / 1e9,
        topics=subject.topics[:_LISTED],
        streams=streams,
        offered={source: list(offered) for source, offered in subject.offered.items()},
        unreached=list(subject.unreached),
        joints=Joints(
            groups=[_joint_group(names, stamps, cameras[anchor]) for names, stamps in groups.items()],
            missing=missing,
            extra=_extra_joints(recording, settings),
        ),
        counts=pipeline.counts,
        ramp_up=_ramp_up(recording),
        details=recording.details,
        skews={camera: one for camera, one in compared.items() if one is not None},
        worst_skew_ms={source: SetSkew.of(ns).worst_ms for source, ns in in_sets.items()},
        offsets=meter.offsets(),
        trained_offsets=watcher.reference.profile.trained_offsets() if watcher else {},
        what_if=what_if(matchings, tolerance_ms),
        timeline=_timeline(recording, streams, begin_ns, end_ns),
        samples=list(recording.samples.values()),
        settings=settings,
        content=told_of(pipeline) if watcher else None,
        versions=_versions(),
    )


def _joint_groups(recording: Recording, settings: Settings) -> dict[tuple[str, ...], Stamps]:
    """Stamps of the spec's joints by the joints that come together, in the order of arrival if one publisher brings them."""
    stamps: dict[str, list[Stamps]] = {}
    sources: dict[str, list[int]] = {}
    for number, (names, numbers) in enumerate(recording.joint_names.items()):
        for name in names:
            stamps.setdefault(name, []).append(as_stamps(numbers))
            sources.setdefault(name, []).append(number)
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in settings.spec.joint_names:
        if name in sources:
            groups.setdefault(tuple(sources[name]), []).append(name)
    return {tuple(names): _merged(stamps[names[0]]) for names in groups.values()}


def _merged(stamps: list[Stamps]) -> Stamps:
    return np.sort(np.concatenate(stamps)) if len(stamps) > 1 else stamps[0]


def _joint_group(names: tuple[str, ...], stamps: Stamps, anchor: Stamps) -> JointGroup:
    in_order = np.unique(stamps)
    between = anchor[(anchor >= in_order[0]) & (anchor <= in_order[-1])]
    age = float(np.percentile(bracket(in_order, between), 99)) / 1e6 if between.size else None
    return JointGroup(list(names), stamps.size, Steps.between(stamps), age)


def _extra_joints(recording: Recording, settings: Settings) -> list[str]:
    published = {name: None for names in recording.joint_names for name in names}
    return [name for name in published if name not in settings.spec.joint_names][:_LISTED]


def _ramp_up(recording: Recording) -> int:
    """Drops before the first set, if it comes within a second of the first anchor."""
    if SET not in recording.decided:
        return 0
    first_ns = recording.decided[SET][0]
    before = [as_stamps(at) for key, at in recording.decided.items() if key != SET]
    early = np.concatenate([at[at < first_ns] for at in before]) if before else np.empty(0, np.int64)
    return early.size if early.size and first_ns - early.min() < 1_000_000_000 else 0


def _timeline(recording: Recording, streams: Mapping[str, Stream], begin_ns: int, end_ns: int) -> Timeline:
    span_s = (end_ns - begin_ns) / 1e9
    slowest_hz = min((s.rate_hz for name, s in streams.items() if s.rate_hz and name != JOINTS), default=1.0)
    least_s = max(span_s / _MOST_BINS, min(_PERIODS_A_BIN / slowest_hz, span_s / 10))
    bin_s = next((width for width in _BIN_WIDTHS_S if width >= least_s), least_s)
    edges = begin_ns + np.arange(int(span_s // bin_s) + 2) * bin_s * 1e9

    def by_bin(numbers: Any) -> list[int]:
        return [int(count) for count in np.histogram(as_stamps(numbers), edges)[0]]

    return Timeline(
        bin_s=float(bin_s),
        messages={source: by_bin(track.recorded) for source, track in recording.tracks.items()},
        anchors={key: by_bin(numbers) for key, numbers in sorted(recording.decided.items())},
    )


def _versions() -> dict[str, str]:
    versions = {'fused_encoder_ros': __version__, 'Python': platform.python_version()}
    versions |= {'NumPy': np.__version__, 'OpenCV': cv2.__version__}
    try:
        return {**versions, 'rosbags': version('rosbags')}
    except PackageNotFoundError:
        return versions


def _plain(value: Any) -> Any:
    # asdict of the library would make a Counter of pairs out of a Counter.
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
