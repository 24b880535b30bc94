"""The main job at the desk: a bag to features, through the same pipeline and model as the node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fused_encoder_ros import __version__
from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.model import Model
from fused_encoder_ros.offline.bag import Bag, BagWriter, bag_name, pack
from fused_encoder_ros.offline.export import ParquetSink, parquet_schema
from fused_encoder_ros.offline.files import completed
from fused_encoder_ros.pipeline.data import Drop, Feature, Observation, Reason
from fused_encoder_ros.pipeline.outputs import FEATURE_TOPIC, STAMPED_TOPIC, TYPES, OutputMessages
from fused_encoder_ros.settings import NODE_NAME, Settings

Progress = Callable[[int, int], None]


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


class BagEncoder:
    """Encodes the sets of one bag; iterate over `features`, then read the counts.

    With a batch size of 1 the features equal the node's bit for bit, on the same device, engine and threads; larger
    batches are faster and differ in the last bits.
    """

    def __init__(self, settings: Settings, model: Model, batch_size: int = 1) -> None:
        self.pipeline = settings.pipeline()
        self.drops: dict[str, int] = {}
        self.details: dict[str, str] = {}
        self._model = model
        self._batch_size = batch_size

    def features(self, bag: Bag, progress: Progress = lambda done, total: None) -> Iterator[Feature]:
        """Yield the features in the order of the anchor's stamps."""
        batch: list[Observation] = []
        total = bag.message_count
        for number, (source, message, _recorded_ns) in enumerate(bag.messages(), 1):
            batch += self._observations(self.pipeline.push(source, message))
            while len(batch) >= self._batch_size:
                yield from self._encode(batch[: self._batch_size])
                del batch[: self._batch_size]
            progress(number, total)
        batch += self._observations(self.pipeline.finish())
        if batch:
            yield from self._encode(batch)

    def _observations(self, outcomes: list[Any]) -> Iterator[Observation]:
        for outcome in outcomes:
            if isinstance(outcome, Observation):
                yield outcome
            elif isinstance(outcome, Drop):
                self._count(outcome)
            else:
                self.details[f'{outcome.stream}: {outcome.reason}'] = outcome.detail

    def _count(self, drop: Drop) -> None:
        self.drops[drop.key] = self.drops.get(drop.key, 0) + 1
        self.details[drop.key] = drop.detail

    def _encode(self, batch: list[Observation]) -> Iterator[Feature]:
        values = self._model.encode(np.stack([o.images for o in batch]), np.stack([o.joints for o in batch]))
        for observation, row in zip(batch, values):
            if np.isfinite(row).all():
                yield Feature(row, observation)
            else:
                self._count(Drop(observation.stamp_ns, '', Reason.ENCODER_FAULT, 'the feature holds NaN or infinity'))


def encode_bag(
    path: Path,
    out_dir: Path,
    settings: Settings,
    model: Model,
    *,
    bag_out: bool = False,
    batch_size: int = 1,
    force: bool = False,
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Encode one bag into `out_dir/<bag>.parquet` and, with `bag_out`, the rosbag2 `out_dir/<bag>_features`.

    Raises:
        BagError: when the bag cannot be read or lacks a topic; nothing is written then.
        OutputError: when the output exists or cannot be written.
    """
    start = time.perf_counter()
    name = bag_name(path)
    outputs = {'parquet': out_dir / f'{name}.parquet'}
    if bag_out:
        outputs['bag'] = out_dir / f'{name}_features'
    encoder = BagEncoder(settings, model, batch_size)
    stamps: list[int] = []
    with ExitStack() as stack:
        bag = stack.enter_context(Bag(path, settings.topics))
        files = stack.enter_context(completed(outputs, force))
        with ExitStack() as writers:
            metadata = _metadata(path, settings, model, batch_size)
            schema = parquet_schema(model.feature_dim, settings.spec, metadata)
            parquet = ParquetSink(files['parquet'], schema)
            writers.callback(parquet.close)
            sinks: list[ParquetSink | _FeatureBagSink] = [parquet]
            if bag_out:
                writer = writers.enter_context(BagWriter(files['bag'], 'mcap', _FeatureBagSink.TOPICS))
                sinks.append(_FeatureBagSink(writer, model))
            for feature in encoder.features(bag, progress):
                stamps.append(feature.stamp_ns)
                for sink in sinks:
                    sink.write(feature)
    return _summarise(path, outputs, encoder, stamps, time.perf_counter() - start)


def _summarise(path: Path, outputs: Mapping[str, Path], encoder: BagEncoder, stamps: list[int], elapsed_s: float) -> Summary:
    counts = encoder.pipeline.counts
    span_s = (stamps[-1] - stamps[0]) / 1e9 if stamps else 0.0
    return Summary(
        bag=str(path),
        output=str(outputs['parquet']),
        bag_output=str(outputs['bag']) if 'bag' in outputs else None,
        messages=dict(counts.messages),
        anchors=counts.anchors,
        sets=len(stamps),
        drops=dict(sorted(encoder.drops.items())),
        rejects=dict(sorted(counts.rejects.items())),
        details=encoder.details,
        span_s=span_s,
        rate_hz=(len(stamps) - 1) / span_s if span_s > 0 else None,
        elapsed_s=elapsed_s,
    )


def check_distinct_names(paths: list[Path]) -> None:
    """Raises ConfigError when two bags would write the same output."""
    names: dict[str, Path] = {}
    for path in paths:
        name = bag_name(path)
        if name in names:
            raise ConfigError(
                f'{names[name]} and {path} would both write {name}.parquet; encode them into different --out folders'
            )
        names[name] = path


class _FeatureBagSink:
    """Writes the two output topics of the node into a bag."""

    TOPICS: ClassVar = {f'/{NODE_NAME}/{name}': TYPES[name] for name in (FEATURE_TOPIC, STAMPED_TOPIC)}

    def __init__(self, writer: BagWriter, model: Model) -> None:
        self._writer = writer
        self._messages = OutputMessages(writer.types, pack, pack, model.hash)

    def write(self, feature: Feature) -> None:
        for topic, message in zip(self.TOPICS, (self._messages.feature(feature), self._messages.stamped(feature))):
            self._writer.write(topic, message, feature.stamp_ns)


def _metadata(path: Path, settings: Settings, model: Model, batch_size: int) -> dict[str, Any]:
    return {
        'version': __version__,
        'bag': path.resolve().name,
        'spec': settings.spec.to_dict(),
        'sync': asdict(settings.sync),
        'topics': {source: list(names) for source, names in settings.topics.items()},
        'model_hash': model.hash,
        'design': model.design,
        'random_weights': model.is_random,
        'engine': model.engine.name,
        'precision': model.engine.precision,
        'device': str(model.engine.device),
        'threads': model.threads,
        'batch_size': batch_size,
    }
