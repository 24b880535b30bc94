"""The main job at the desk: a bag to features, through the same pipeline and model as the node."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fused_encoder_ros import __version__
from fused_encoder_ros.offline.ahead import ahead
from fused_encoder_ros.offline.bag import Bag, BagWriter, bag_name
from fused_encoder_ros.offline.files import completed
from fused_encoder_ros.offline.formats.mcap import FeatureTopics
from fused_encoder_ros.offline.formats.parquet import ParquetSink
from fused_encoder_ros.offline.observations import Progress, encode_observations, outcomes_of
from fused_encoder_ros.pipeline.data import Drop, Feature, Reject
from fused_encoder_ros.pipeline.pipeline import Counts
from fused_encoder_ros.settings import Settings

if TYPE_CHECKING:  # torch takes seconds to import
    from fused_encoder_ros.model import Model


_OUTCOMES_AHEAD = 64


@dataclass(frozen=True)
class Summary:
    """What became of one bag.

    Attributes:
        bag: its path.
        output: the Parquet file.
        bag_output: the bag of features; None when not asked for.
        messages: messages read, by source.
        anchors: frames of the anchor camera.
        sets: features written.
        drops: anchor frames without a set, by reason.
        rejects: other messages that could not be used, by `source: reason`.
        details: the last sentence for each reason.
        span_s: seconds from the first to the last set.
        rate_hz: sets a second of recording; None for fewer than two sets.
        elapsed_s: seconds that encoding took.
    """

    bag: str
    output: str
    bag_output: str | None
    messages: dict[str, int]
    anchors: int
    sets: int
    drops: dict[str, int]
    rejects: dict[str, int]
    details: dict[str, str]
    span_s: float
    rate_hz: float | None
    elapsed_s: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def encode_bag(
    path: Path,
    out_dir: Path,
    settings: Settings,
    model: Model,
    *,
    name: str = '',
    bag_out: bool = False,
    batch_size: int = 1,
    force: bool = False,
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Encode one bag into `out_dir/<name>.parquet` and, with `bag_out`, the rosbag2 `out_dir/<name>_features`.

    Where no name is given it is the bag's.

    Raises:
        BagError: when the bag cannot be read or lacks a topic; nothing is written then.
        OutputError: when the output exists or cannot be written.
    """
    start = time.perf_counter()
    name = name or bag_name(path)
    outputs = {'parquet': out_dir / f'{name}.parquet'}
    if bag_out:
        outputs['bag'] = out_dir / f'{name}_features'
    pipeline = settings.pipeline()
    told = _Told()
    with ExitStack() as stack:
        bag = stack.enter_context(Bag(path, settings.topics))
        files = stack.enter_context(completed(outputs, force))
        with ExitStack() as writers:
            metadata = _metadata(path, settings, model, batch_size)
            parquet = writers.enter_context(ParquetSink(files['parquet'], settings.spec, metadata, model.feature_dim))
            sinks: list[ParquetSink | FeatureTopics] = [parquet]
            if bag_out:
                writer = writers.enter_context(BagWriter(files['bag'], 'mcap', FeatureTopics.TYPES))
                sinks.append(FeatureTopics(writer, model.hash))
            outcomes = stack.enter_context(closing(ahead(outcomes_of(bag, pipeline, progress), _OUTCOMES_AHEAD)))
            for result in encode_observations(outcomes, model, batch_size):
                told.take(result)
                if isinstance(result, Feature):
                    for sink in sinks:
                        sink.write(result)
    return _summarise(path, outputs, pipeline.counts, told, time.perf_counter() - start)


@dataclass
class _Told:
    """What a summary tells: stamps of the sets, drops by reason, and the last sentence for each reason."""

    stamps: list[int] = field(default_factory=list)
    drops: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)

    def take(self, result: Feature | Drop | Reject) -> None:
        if isinstance(result, Feature):
            self.stamps.append(result.stamp_ns)
        elif isinstance(result, Drop):
            self.drops[result.key] += 1
            self.details[result.key] = result.detail
        else:
            self.details[f'{result.stream}: {result.reason}'] = result.detail


def _summarise(path: Path, outputs: Mapping[str, Path], counts: Counts, told: _Told, elapsed_s: float) -> Summary:
    span_s = (told.stamps[-1] - told.stamps[0]) / 1e9 if told.stamps else 0.0
    return Summary(
        bag=str(path),
        output=str(outputs['parquet']),
        bag_output=str(outputs['bag']) if 'bag' in outputs else None,
        messages=dict(counts.messages),
        anchors=counts.anchors,
        sets=len(told.stamps),
        drops=dict(sorted(told.drops.items())),
        rejects=dict(sorted(counts.rejects.items())),
        details=told.details,
        span_s=span_s,
        rate_hz=(len(told.stamps) - 1) / span_s if span_s > 0 else None,
        elapsed_s=elapsed_s,
    )


def _metadata(path: Path, settings: Settings, model: Model, batch_size: int) -> dict[str, Any]:
    return {
        'version': __version__,
        'bag': path.resolve().name,
        **settings.provenance(),
        **model_metadata(model),
        'batch_size': batch_size,
    }


def model_metadata(model: Model) -> dict[str, Any]:
    """What decides about features, to the last bits, and travels with them, as JSON has it."""
    return {
        'model_hash': model.hash,
        'design': model.design,
        'random_weights': model.is_random,
        'engine': model.engine.name,
        'precision': model.engine.precision,
        'device': str(model.engine.device),
        'threads': model.threads,
    }
