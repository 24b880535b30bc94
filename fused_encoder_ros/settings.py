"""Every parameter of the package, once: the node declares them, the bag tools read the same YAML, the README lists them."""

from __future__ import annotations

import array
import dataclasses
import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.options import DESIGNS, ENGINES, PRECISIONS, ModelOptions
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.pipeline.sync import MATCHES, SyncOptions
from fused_encoder_ros.spec import CAMERAS, DEFAULT_JOINT_NAMES, INTERPOLATIONS, ObservationSpec

NODE_NAME = 'fused_encoder'

Value = bool | int | float | str | list[str] | list[float]

COMPRESSED_SUFFIX = '/compressed'

_SEQUENCES = (list, tuple, array.array)

OF_EVERY_NODE = ('use_sim_time', 'qos_overrides', 'start_type_description_service')


@dataclass(frozen=True)
class Parameter:
    """One ROS parameter.

    Attributes:
        name: as in YAML; a dot is a level.
        default: its value when nothing is said; its type is the parameter's type.
        description: what it does, for `ros2 param describe` and the README.
        minimum, maximum: inclusive range of a number.
        choices: the allowed strings; empty allows any.
        read_only: cannot be changed once the node runs.
        floats: a list of numbers, which may be empty.
        live: a change takes effect at once, between two sets; other parameters are read when the node is configured.
    """

    name: str
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False
    floats: bool = False
    live: bool = False

    def check(self, value: Any) -> Value:
        """The value in the parameter's type.

        Raises:
            ConfigError: naming the parameter, the value and the fix.
        """
        if self.floats:
            if not isinstance(value, _SEQUENCES):
                raise ConfigError(f'{self.name}: {value!r} is not a list of numbers')
            return [self._number(item) for item in value]
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise ConfigError(f'{self.name}: {value!r} is not a truth value; use true or false')
            return value
        if isinstance(self.default, int):
            return int(self._number(value, whole=True))
        if isinstance(self.default, float):
            return self._number(value)
        if isinstance(self.default, list):
            items = [value] if isinstance(value, str) else list(value) if isinstance(value, _SEQUENCES) else []
            if not items or not all(isinstance(item, str) for item in items):
                raise ConfigError(f'{self.name}: {value!r} is not a list of names')
            return items
        if not isinstance(value, str):
            raise ConfigError(f'{self.name}: {value!r} is not a string; put it in quotes')
        if self.choices and value not in self.choices:
            raise ConfigError(f'{self.name}: {value!r} is unknown; use one of {list(self.choices)}')
        return value

    def _number(self, value: Any, whole: bool = False) -> float:
        kind = 'a whole number' if whole else 'a number'
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or value != value:
            raise ConfigError(f'{self.name}: {value!r} is not {kind}')
        if self.minimum is not None and value < self.minimum:
            raise ConfigError(f'{self.name}: {value} is too small; use at least {self.minimum:g}')
        if self.maximum is not None and value > self.maximum:
            raise ConfigError(f'{self.name}: {value} is too large; use at most {self.maximum:g}')
        if abs(value) > sys.float_info.max:
            raise ConfigError(f'{self.name}: {value} is not finite')
        return value if whole else float(value)


def _topic(source: str, default: str) -> Parameter:
    return Parameter(f'topics.{source}', default, f'topic of {source}; a remapping works too')


def _live(name: str, default: float, description: str, minimum: float, maximum: float) -> Parameter:
    return Parameter(name, default, description, minimum, maximum, live=True)


PARAMETERS = (
    Parameter('autostart', True, 'configure and activate at start; false leaves that to a lifecycle manager', read_only=True),
    *(_topic(camera, f'{camera}/image') for camera in CAMERAS),
    Parameter(
        f'topics.{JOINTS}',
        ['joint_states'],
        'topic of the joints, or topics that each bring some of them; remappings work too',
    ),
    Parameter(
        'image_transport',
        'raw',
        'raw: sensor_msgs/Image; compressed: sensor_msgs/CompressedImage under TOPIC/compressed. '
        'A single camera is compressed when its own topic ends with /compressed',
        choices=('raw', 'compressed'),
    ),
    Parameter(
        'reliability',
        'auto',
        'QoS of the inputs. auto: reliable when every publisher is, else best effort',
        choices=('auto', 'reliable', 'best_effort'),
    ),
    Parameter('image_depth', 5, 'QoS queue depth of each camera, messages', 1, 1000),
    Parameter('joint_depth', 200, 'QoS queue depth of each joint topic, messages', 1, 10000),
    Parameter('checkpoint', '', 'path of an encoder state dict or packed checkpoint; empty runs a seeded random encoder'),
    Parameter('design', 'auto', 'encoder design; auto takes what the checkpoint holds', choices=('auto', *DESIGNS)),
    Parameter('seed', 0, 'seed of the random encoder that runs without a checkpoint', 0, 2**31 - 1),
    Parameter('device', 'auto', 'auto, cpu, cuda or cuda:N; auto takes CUDA where it is usable and the engine runs there'),
    Parameter('engine', 'auto', 'auto takes the fastest that runs here; eager is plain torch, the reference', choices=ENGINES),
    Parameter(
        'precision', 'fp32', 'fp16 (CUDA) and bf16 are faster where the hardware has them, and less exact', choices=PRECISIONS
    ),
    Parameter('threads', 2, 'CPU threads of the encoder; the number changes the last bits of a feature', 1, 256),
    Parameter('cameras', list(CAMERAS), 'channel order of the stacked image, as in training'),
    Parameter('image_size', 84, 'side of the square each camera is resized to, pixels', 8, 1024),
    Parameter('interpolation', 'linear', "OpenCV's resize method, as in training", choices=INTERPOLATIONS),
    Parameter('pixel_divisor', 255.0, 'pixels are divided by this', 1e-6, 1e6),
    Parameter('pixel_mean', [], 'mean by channel after the division, 3 or 9 values; empty: none', floats=True),
    Parameter('pixel_std', [], 'standard deviation by channel; goes with pixel_mean', floats=True),
    Parameter('joint_names', list(DEFAULT_JOINT_NAMES), "the joints, in the order of the encoder's input"),
    Parameter('joint_mean', [], 'mean of each joint, rad or m; empty: joints stay raw', floats=True),
    Parameter('joint_std', [], 'standard deviation of each joint; goes with joint_mean', floats=True),
    Parameter(
        'untyped_color_order',
        '',
        'what 8UC3 and 8UC4 images hold: rgb or bgr; empty refuses them',
        choices=('', 'rgb', 'bgr'),
    ),
    Parameter('anchor', 'global', 'the camera whose every frame asks for a set', choices=CAMERAS),
    Parameter(
        'match',
        'nearest',
        'nearest waits for the frame after the anchor; soonest takes what has come once it is within the limits',
        choices=MATCHES,
        live=True,
    ),
    _live('tolerance_ms', 20.0, 'largest skew of a follower camera to the anchor', 0.0, 10000.0),
    _live(
        'camera_period_ms',
        0.0,
        'declared frame period of the followers, the shortest if they differ: an earlier frame within half of it is '
        'taken at once; 0 waits for the next',
        0.0,
        10000.0,
    ),
    _live('max_wait_ms', 200.0, 'an anchor gives up on silent streams when a newer anchor is this much later', 1.0, 60000.0),
    _live('joint_max_age_ms', 100.0, 'joints rest on samples no further than this from the anchor', 1.0, 60000.0),
    _live('horizon_s', 1.0, 'how long frames are kept; a stamp this far backwards is a jump of the clock', 0.05, 60.0),
    _live(
        'silence_s', 3.0, 'after this long without a set the log says why; an input this long silent is an ERROR', 0.5, 3600.0
    ),
    _live('diagnostics.min_camera_rate_hz', 0.0, 'a camera slower than this is a WARN; 0 never', 0.0, 10000.0),
    _live('diagnostics.min_joint_rate_hz', 0.0, 'a joint topic slower than this is a WARN; 0 never', 0.0, 100000.0),
    _live('diagnostics.max_drop_share', 0.1, 'more anchor frames of the last ten seconds without a set are a WARN', 0.0, 1.0),
    _live('diagnostics.max_latency_ms', 0.0, 'a higher p95 from stamp to feature is a WARN; 0 never', 0.0, 3600000.0),
    _live(
        'diagnostics.max_still_s',
        2.0,
        'a picture that stays the same, bit for bit, for longer is a WARN; 0 never',
        0.0,
        3600.0,
    ),
    _live('diagnostics.hold_s', 3.0, 'a level of diagnostics goes down only after it was better for this long', 0.0, 3600.0),
)

_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}

SPEC_PARAMETERS = tuple(field.name for field in dataclasses.fields(ObservationSpec))
"""The parameters that say how the encoder must be fed: a packed checkpoint says it too."""


@dataclass(frozen=True)
class Settings:
    """All parameters, checked and in the units of the code.

    Attributes:
        values: the checked value of every parameter, by name.
        topics: topics of each source (the cameras of the spec, and `JOINTS`), with their transport's suffix. A camera has one.
        spec, sync, model: what the rooms of the package take.
    """

    values: Mapping[str, Any]
    topics: Mapping[str, tuple[str, ...]]
    spec: ObservationSpec
    sync: SyncOptions
    model: ModelOptions

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Settings:
        """Check values by parameter name; what is absent keeps its default, or is as a packed checkpoint says.

        Raises:
            ConfigError: naming the parameter and the fix; also when a value contradicts the packed checkpoint.
            CheckpointError: when the checkpoint cannot be read.
        """
        for name in values:
            if name not in _BY_NAME:
                close = difflib.get_close_matches(name, _BY_NAME, 1, 0.75)
                hint = f'did you mean {close[0]}?' if close else f'known are {", ".join(sorted(_BY_NAME))}'
                raise ConfigError(f'{name}: there is no such parameter; {hint}')
        checked: dict[str, Any] = {p.name: p.check(values.get(p.name, p.default)) for p in PARAMETERS}

        spec = _spec(checked, [name for name in SPEC_PARAMETERS if name in values])
        names = (field.name for field in dataclasses.fields(ModelOptions))
        model = ModelOptions(**{name: checked[name] for name in names})
        return cls(checked, _topics(checked), spec, _sync_options(checked), model)

    def with_live(self, values: Mapping[str, Any]) -> Settings:
        """These settings with other values of parameters that are `live`.

        Raises:
            ConfigError: naming the parameter and the fix.
        """
        checked = {**self.values, **{name: _BY_NAME[name].check(value) for name, value in values.items()}}
        return dataclasses.replace(self, values=checked, sync=_sync_options(checked))


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
    )


def _spec(checked: Mapping[str, Any], stated: Sequence[str]) -> ObservationSpec:
    """The spec of the parameters, or of the packed checkpoint where that does not contradict the stated ones."""
    # An empty list stands for no statistics.
    fields: dict[str, Any] = {
        name: (tuple(v) or None) if isinstance(v := checked[name], list) else v for name in SPEC_PARAMETERS
    }
    if not checked['checkpoint']:
        return ObservationSpec(**fields)
    from fused_encoder_ros.model.packed_checkpoint import read_spec  # and with it torch, which takes seconds

    packed = read_spec(checked['checkpoint'])
    if packed is None:
        return ObservationSpec(**fields)
    for name in stated:
        if fields[name] != getattr(packed, name):
            said, needed = (list(v) if isinstance(v, tuple) else v or 'nothing' for v in (fields[name], getattr(packed, name)))
            raise ConfigError(
                f'{name}: the parameter says {said}, but {checked["checkpoint"]} must be fed with {needed}; '
                f'leave {name} out, or give the checkpoint that was trained so'
            )
    return packed


def _topics(values: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    topics = {camera: (values[f'topics.{camera}'],) for camera in CAMERAS} | {JOINTS: tuple(values[f'topics.{JOINTS}'])}
    for source, names in topics.items():
        if not all(names):
            raise ConfigError(f'topics.{source}: the topic is empty; name one')
    if values['image_transport'] == 'compressed':
        for camera in CAMERAS:
            (topic,) = topics[camera]
            topics[camera] = (topic if is_compressed(topic) else topic + COMPRESSED_SUFFIX,)
    refuse_shared_topics({source: tuple(map(absolute, names)) for source, names in topics.items()})
    return topics


def refuse_shared_topics(topics: Mapping[str, tuple[str, ...]]) -> None:
    """Raises ConfigError when a topic is named twice: the encoder would see one camera twice."""
    sources: dict[str, str] = {}
    for source, names in topics.items():
        for topic in names:
            if topic in sources:
                raise ConfigError(f'topics.{source}: {topic} is the topic of {sources[topic]} too; name each topic once')
            sources[topic] = source


def absolute(topic: str) -> str:
    """A topic's name from the root namespace."""
    return topic if topic.startswith('/') else f'/{topic}'


def is_compressed(topic: str) -> bool:
    """Whether a camera topic carries CompressedImage, by the naming of image_transport."""
    return topic.endswith(COMPRESSED_SUFFIX)


def read_parameter_file(path: str | os.PathLike[str], node_name: str = NODE_NAME) -> dict[str, Any]:
    """Read the node's parameters out of a ROS parameter file, as flat names.

    Sections `/**`, the node's name and the node's name in any namespace count; other nodes' sections are left out, and
    so are the parameters that every ROS node has (`use_sim_time`, `qos_overrides`).

    Raises:
        ConfigError: when the file cannot be read or is no parameter file.
    """
    content = _read_yaml(path)
    found: dict[str, Any] = {}
    matched = False
    for section, body in content.items():
        if str(section).split('/')[-1] in ('**', node_name):
            if not isinstance(body, dict) or not isinstance(body.get('ros__parameters'), dict):
                raise ConfigError(f'parameter file {path}: section {section} has no ros__parameters')
            matched = True
            _flatten(body['ros__parameters'], '', found)
    if not matched:
        raise ConfigError(f'parameter file {path} has no section for {node_name}; it has {list(content)}')
    return {name: value for name, value in found.items() if name.split('.')[0] not in OF_EVERY_NODE}


def read_spec_file(path: str | os.PathLike[str]) -> ObservationSpec:
    """An observation spec out of a YAML file: of its fields alone, or a ROS parameter file with them among others.

    Raises:
        ConfigError: when the file cannot be read, or a field is unknown or unusable.
    """
    content = _read_yaml(path)
    if any(isinstance(body, dict) and 'ros__parameters' in body for body in content.values()):
        values = read_parameter_file(path)
        return Settings.from_values({name: values[name] for name in SPEC_PARAMETERS if name in values}).spec
    if unknown := [name for name in content if name not in SPEC_PARAMETERS]:
        raise ConfigError(f'{path}: {unknown[0]!r} is no field of an observation spec; known are {list(SPEC_PARAMETERS)}')
    # As `to_dict` writes it, no statistics are null; as a parameter, an empty list.
    return Settings.from_values({name: [] if value is None else value for name, value in content.items()}).spec


def _read_yaml(path: str | os.PathLike[str]) -> dict[Any, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f'parameter file {path} cannot be read: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'parameter file {path} is not YAML: {error}') from error
    if not isinstance(content, dict):
        raise ConfigError(f'parameter file {path} is no ROS parameter file; begin it with "{NODE_NAME}: ros__parameters:"')
    return content


def _flatten(tree: Mapping[str, Any], prefix: str, into: dict[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            _flatten(value, f'{prefix}{key}.', into)
        else:
            into[f'{prefix}{key}'] = value
