"""All parameters of the node, checked and converted to the units of the code."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fused_encoder_ros.content.features import FeatureWatch
from fused_encoder_ros.content.inspector import ContentInspector
from fused_encoder_ros.content.reference import Reference
from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.model.options import ModelOptions
from fused_encoder_ros.model.packed_spec import read_packed_offsets, read_packed_spec
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.pipeline.options import SyncOptions
from fused_encoder_ros.pipeline.pipeline import Pipeline
from fused_encoder_ros.settings.parameter import Parameter
from fused_encoder_ros.settings.table import SPEC_PARAMETERS, STAMP_OFFSET, parameters
from fused_encoder_ros.settings.topics import COMPRESSED_SUFFIX, absolute, is_compressed, refuse_shared_topics
from fused_encoder_ros.settings.training import reference_in
from fused_encoder_ros.spec import CAMERAS, ObservationSpec, check_cameras

NODE_NAME = 'fused_encoder'

_TOPICS = 'topics.'


@dataclass(frozen=True)
class Settings:
    """All parameters of the node, checked and converted to the units of the code; make it with `from_values`.

    Attributes:
        values: the checked value of every parameter, by name.
        topics: the topics of each source, that is of each camera (always one topic) and of 'joint_states', with the suffix
            of the image transport.
        spec: how the encoder's input is made.
        sync: how sets are matched.
        model: which encoder runs, and where; what `load_model` takes.

    Example:
        >>> settings = Settings.from_values({'tolerance_ms': 15.0})
        >>> settings.sync.tolerance_ns
        15000000
    """

    values: Mapping[str, Any]
    topics: Mapping[str, tuple[str, ...]]
    spec: ObservationSpec
    sync: SyncOptions
    model: ModelOptions

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Settings:
        """Check parameters, given by the node's names for them.

        A parameter that is absent keeps its default, or takes its value from the packed checkpoint if one is given.

        Raises:
            ConfigError: if a name is unknown, or a value is unusable or contradicts the packed checkpoint. The text names the
                parameter and the fix.
            CheckpointError: if the checkpoint cannot be read.
        """
        packed = _packed_spec(values)
        cameras = _cameras(values, packed)
        table = _by_name(cameras)
        refuse_unknown(values, cameras)
        known = {**_packed_offsets(values, table), **values}
        checked: dict[str, Any] = {name: p.check(known.get(name, p.default)) for name, p in table.items()}
        spec = _spec(checked, [name for name in SPEC_PARAMETERS if name in values], packed)
        checked['anchor'] = checked['anchor'] or spec.default_anchor
        names = (field.name for field in dataclasses.fields(ModelOptions))
        model = ModelOptions(**{name: checked[name] for name in names})
        return cls(checked, _topics(checked, spec.cameras), spec, _sync_options(checked), model)

    def with_live(self, values: Mapping[str, Any]) -> Settings:
        """Return a copy with new values of parameters that may change while the node runs.

        Raises:
            ConfigError: if a value is unusable; the text names the parameter and the fix.
        """
        table = _by_name(self.spec.cameras)
        checked = {**self.values, **{name: table[name].check(value) for name, value in values.items()}}
        live = dataclasses.replace(self, values=checked, sync=_sync_options(checked))
        if 'reference' in vars(self):  # it belongs to the model, which stays
            vars(live)['reference'] = self.reference
        return live

    @property
    def stamp_offset_ms(self) -> dict[str, float]:
        """What is added to the stamps of each source that has an offset, ms."""
        return {source: ns / 1e6 for source, ns in self.sync.stamp_offsets_ns.items()}

    def provenance(self) -> dict[str, Any]:
        """What determines the observations, to be stored with results: spec, matching options and topics, as JSON values."""
        refuses = {'content_faults': 'refuse'} if self.values['content_faults'] == 'refuse' else {}
        return {
            'spec': self.spec.to_dict(),
            'sync': dataclasses.asdict(self.sync),
            'topics': {source: list(names) for source, names in self.topics.items()},
            **refuses,
        }

    @cached_property
    def reference(self) -> Reference | None:
        """What the checkpoint's profile says of the training data; None where it has none, or `content_faults` is off.

        It is read once, the first time that it is asked for.

        Raises:
            CheckpointError, ConfigError: when the profile cannot be used.
        """
        if self.values['content_faults'] == 'off':
            return None
        return reference_in(self.values['checkpoint'], self.spec)

    def pipeline(self, keep_full_images: bool = False) -> Pipeline:
        """Make an empty pipeline with these settings; `keep_full_images` is as in `Pipeline`. Raises as `reference`."""
        reference = self.reference
        inspector = ContentInspector(reference, self.values['content_faults'] == 'refuse') if reference else None
        return Pipeline(self.spec, self.sync, self.values['untyped_color_order'], keep_full_images, inspector)

    def feature_watch(self) -> FeatureWatch | None:
        """What measures features against those of the training data; None where the checkpoint's profile has none."""
        reference = self.reference
        return FeatureWatch(reference) if reference and reference.features else None


def cameras_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The cameras that parameters by name ask for: as they state, as a packed checkpoint says, or the usual three.

    Raises:
        ConfigError: when they are not usable.
        CheckpointError: when the checkpoint cannot be read.
    """
    return _cameras(values, None if 'cameras' in values else _packed_spec(values))


def _packed_spec(values: Mapping[str, Any]) -> ObservationSpec | None:
    path = values.get('checkpoint')
    return read_packed_spec(path) if path and isinstance(path, str) else None


def _packed_offsets(values: Mapping[str, Any], table: Mapping[str, Parameter]) -> dict[str, float]:
    """Offsets of the training data, by parameter: a robot of the same kind has them too, where nobody says otherwise."""
    path = values.get('checkpoint')
    packed = read_packed_offsets(path) if path and isinstance(path, str) else {}
    return {name: ms for source, ms in packed.items() if (name := STAMP_OFFSET + source) in table}


def _cameras(values: Mapping[str, Any], packed: ObservationSpec | None) -> tuple[str, ...]:
    if 'cameras' not in values:
        return packed.cameras if packed else CAMERAS
    stated: Any = _by_name()['cameras'].check(values['cameras'])
    cameras = tuple(stated)
    check_cameras(cameras)
    return cameras


def _by_name(cameras: Sequence[str] = CAMERAS) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in parameters(cameras)}


def refuse_unknown(names: Iterable[str], cameras: Sequence[str]) -> None:
    """Raises ConfigError for a name that is no parameter of a node with these cameras."""
    table = _by_name(cameras)
    for name in names:
        if name in table:
            continue
        if name.startswith((_TOPICS, STAMP_OFFSET)):
            source = name.partition('.')[2]
            raise ConfigError(
                f'{name}: there is no camera {source} (the cameras are {", ".join(cameras)}); add it to the parameter '
                f'cameras, or remove {name}'
            )
        close = difflib.get_close_matches(name, table, 1, 0.75)
        hint = f'did you mean {close[0]}?' if close else f'use one of {", ".join(sorted(table))}'
        raise ConfigError(f'{name}: there is no such parameter; {hint}')


def _sync_options(checked: Mapping[str, Any]) -> SyncOptions:
    def nanoseconds(name: str, unit_ns: int) -> int:
        return round(checked[name] * unit_ns)

    return SyncOptions(
        anchor=checked['anchor'],
        match=checked['match'],
        tolerance_ns=nanoseconds('tolerance_ms', 1_000_000),
        camera_period_ns=nanoseconds('camera_period_ms', 1_000_000),
        max_wait_ns=nanoseconds('max_wait_ms', 1_000_000),
        joint_max_age_ns=nanoseconds('joint_max_age_ms', 1_000_000),
        horizon_ns=nanoseconds('horizon_s', 1_000_000_000),
        stamp_offsets_ns={
            name.removeprefix(STAMP_OFFSET): nanoseconds(name, 1_000_000)
            for name, value in checked.items()
            if name.startswith(STAMP_OFFSET) and value
        },
    )


def _spec(checked: Mapping[str, Any], stated: Sequence[str], packed: ObservationSpec | None) -> ObservationSpec:
    """The spec of the parameters, or of the packed checkpoint where that does not contradict the stated ones."""
    # An empty list stands for no statistics.
    fields: dict[str, Any] = {
        name: (tuple(v) or None) if isinstance(v := checked[name], list) else v for name in SPEC_PARAMETERS
    }
    if packed is None:
        return ObservationSpec(**fields)
    for name in stated:
        if fields[name] != getattr(packed, name):
            said, needed = (list(v) if isinstance(v, tuple) else v or 'nothing' for v in (fields[name], getattr(packed, name)))
            raise ConfigError(
                f'{name}: the parameter is {said}, but {checked["checkpoint"]} was trained with {needed}; '
                f'remove {name}, or use a checkpoint that was trained with {said}'
            )
    return packed


def _topics(values: Mapping[str, Any], cameras: Sequence[str]) -> dict[str, tuple[str, ...]]:
    topics = {camera: (values[_TOPICS + camera],) for camera in cameras} | {JOINTS: tuple(values[_TOPICS + JOINTS])}
    for source, names in topics.items():
        if not all(names):
            raise ConfigError(f'topics.{source}: the topic is empty; give its name')
    if values['image_transport'] == 'compressed':
        for camera in cameras:
            (topic,) = topics[camera]
            topics[camera] = (topic if is_compressed(topic) else topic + COMPRESSED_SUFFIX,)
    refuse_shared_topics({source: tuple(map(absolute, names)) for source, names in topics.items()})
    return topics
