"""Encodes a bag into features, with the same pipeline and model as the node."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fused_encoder_ros import __version__
from fused_encoder_ros.offline.ahead import ahead
from fused_encoder_ros.offline.bag import Bag, BagWriter, bag_name
from fused_encoder_ros.offline.files import completed
from fused_encoder_ros.offline.formats.mcap import FeatureTopics
from fused_encoder_ros.offline.formats.parquet import ParquetSink
from fused_encoder_ros.offline.observations import Progress, encode_observations, outcomes_of
from fused_encoder_ros.offline.tally import Tally
from fused_encoder_ros.pipeline.data import Feature, Observation
from fused_encoder_ros.settings import Settings

if TYPE_CHECKING:  # torch takes seconds to import
    from fused_encoder_ros.model import Model


_OUTCOMES_AHEAD = 64


@dataclass(frozen=True)
class Summary:
    """What `encode_bag` did with one bag.

    Attributes:
        bag: path of the bag.
        output: path of the Parquet file.
        bag_output: path of the bag with the features; None if none was asked for.
        messages: messages read, by source.
        rates_hz: messages per second of recording, by source; None for fewer than two messages.
        anchors: frames of the anchor camera.
        sets: features written.
        drops: anchor frames that became no set, by reason.
        rejects: other messages that could not be used, by `source: reason`.
        details: for each reason, the sentence that came with the last such drop or reject.
        span_s: time from the first to the last set, in seconds.
        rate_hz: sets per second of recording; None for fewer than two sets.
        skew_ms: by source, how far its stamps are from the anchor's in the sets: `p50_ms`, `p95_ms`, `worst_ms`.
        brightness: mean of each camera's pixels in the sets, 0 to 255.
        still_s: by camera, the longest time for which its picture did not change, in seconds.
        features: statistics of the features: `mean`, base64 of float32 [D], little-endian; `norm`, the mean Euclidean norm;
            `constant`, how many dimensions never change (None for a single set); `distance`, the median of
            `Feature.distance` (None without a profile). None if there are no sets.
        content: faults in what the data show, found with the profile of the checkpoint; see `content.watch.Told`.
        elapsed_s: time that encoding took, in seconds.
        middle: a set from the middle of the bag; None if there are no sets.
    """

    bag: str
    output: str
    bag_output: str | None
    messages: dict[str, int]
    rates_hz: dict[str, float | None]
    anchors: int
    sets: int
    drops: dict[str, int]
    rejects: dict[str, int]
    details: dict[str, str]
    span_s: float
    rate_hz: float | None
    skew_ms: dict[str, dict[str, float]]
    brightness: dict[str, float]
    still_s: dict[str, float]
    features: dict[str, Any] | None
    content: list[dict[str, Any]]
    elapsed_s: float
    middle: Observation | None = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The summary as values that JSON can hold, without `middle`."""
        values = asdict(replace(self, middle=None))
        del values['middle']
        return values


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
    """Encode one bag into the file `out_dir/<name>.parquet`.

    A file appears only when it is complete.

    Args:
        path: the bag.
        out_dir: folder for the results.
        settings: the parameters of the node.
        model: what `load_model` returns.
        name: name of the results; '' takes the name of the bag.
        bag_out: whether to write the features as a rosbag2, `out_dir/<name>_features`, as well.
        batch_size: as in `encode_observations`.
        force: whether to replace existing results.
        progress: called as `progress(done, total)`, in messages.

    Raises:
        BagError: if the bag cannot be read or lacks a topic; nothing is written then.
        OutputError: if a result exists and `force` is not set, or if it cannot be written.
        EngineError: if the engine fails.
    """
    start = time.perf_counter()
    name = name or bag_name(path)
    outputs = {'parquet': out_dir / f'{name}.parquet'}
    if bag_out:
        outputs['bag'] = out_dir / f'{name}_features'
    pipeline = settings.pipeline()
    with ExitStack() as stack:
        bag = stack.enter_context(Bag(path, settings.topics))
        tally = Tally(bag, pipeline)
        files = stack.enter_context(completed(outputs, force))
        with ExitStack() as writers:
            metadata = _metadata(path, settings, model, batch_size)
            watch = settings.feature_watch()
            parquet = writers.enter_context(
                ParquetSink(files['parquet'], settings.spec, metadata, model.feature_dim, has_distance=watch is not None)
            )
            sinks: list[ParquetSink | FeatureTopics] = [parquet]
            if bag_out:
                writer = writers.enter_context(BagWriter(files['bag'], 'mcap', FeatureTopics.TYPES))
                sinks.append(FeatureTopics(writer, model.hash))
            outcomes = stack.enter_context(closing(ahead(outcomes_of(bag, pipeline, progress), _OUTCOMES_AHEAD)))
            for result in encode_observations(outcomes, model, batch_size, watch):
                tally.take(result)
                if isinstance(result, Feature):
                    for sink in sinks:
                        sink.write(result)
    return Summary(
        bag=str(path),
        output=str(outputs['parquet']),
        bag_output=str(outputs['bag']) if bag_out else None,
        **tally.figures(),
        elapsed_s=time.perf_counter() - start,
        middle=tally.middle,
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
