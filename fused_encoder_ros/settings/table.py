"""The table of parameters: the node declares them, the bag tools read the same YAML, the documentation lists them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fused_encoder_ros.content.inspector import POLICIES
from fused_encoder_ros.model.options import DESIGNS, ENGINES, PRECISIONS
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.pipeline.options import MATCHES
from fused_encoder_ros.settings.parameter import Parameter
from fused_encoder_ros.spec import CAMERAS, DEFAULT_JOINT_NAMES, INTERPOLATIONS, ObservationSpec

OF_EVERY_NODE = ('use_sim_time', 'qos_overrides', 'start_type_description_service')
"""What the names of parameters begin with that every ROS node has."""

SPEC_PARAMETERS = tuple(field.name for field in dataclasses.fields(ObservationSpec))
"""The parameters that say how the encoder must be fed: a packed checkpoint says it too."""

STAMP_OFFSET = 'stamp_offset_ms.'
"""What the names begin with of the parameters that correct the stamps of a source."""


def is_derived(name: str) -> bool:
    """Whether a parameter follows from the checkpoint or from others where nobody has stated it."""
    return name in SPEC_PARAMETERS or name == 'anchor' or name.startswith(STAMP_OFFSET)


def _topic(source: str, default: str) -> Parameter:
    return Parameter(f'topics.{source}', default, f'topic of {source}; a remapping works too')


def _stamp_offset(source: str) -> Parameter:
    what = 'the joints' if source == JOINTS else source
    return Parameter(
        f'{STAMP_OFFSET}{source}',
        0.0,
        f'added to the stamps of {what} before matching; negative where they are late',
        -1000,
        1000,
    )


def _live(name: str, default: float, description: str, minimum: float, maximum: float) -> Parameter:
    return Parameter(name, default, description, minimum, maximum, live=True)


_INPUTS = (
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
)

_ENCODER = (
    Parameter('checkpoint', '', 'path of an encoder state dict or packed checkpoint; empty runs a seeded random encoder'),
    Parameter('design', 'auto', 'encoder design; auto takes what the checkpoint holds', choices=('auto', *DESIGNS)),
    Parameter('seed', 0, 'seed of the random encoder that runs without a checkpoint', 0, 2**31 - 1),
    Parameter('device', 'auto', 'auto, cpu, cuda or cuda:N; auto takes CUDA where it is usable and the engine runs there'),
    Parameter('engine', 'auto', 'auto takes the fastest that runs here; eager is plain torch, the reference', choices=ENGINES),
    Parameter(
        'precision',
        'fp32',
        'fp16 (CUDA) and bf16 are faster where the hardware has them, and less exact',
        choices=PRECISIONS,
    ),
    Parameter('threads', 2, 'CPU threads of the encoder; the number changes the last bits of a feature', 1, 256),
)

_OBSERVATION = (
    Parameter('image_size', 84, 'side of the square each camera is resized to, pixels', 8, 1024),
    Parameter('interpolation', 'linear', "OpenCV's resize method, as in training", choices=INTERPOLATIONS),
    Parameter('pixel_divisor', 255.0, 'pixels are divided by this', 1e-6, 1e6),
    Parameter('pixel_mean', [], 'mean by channel after the division, 3 values or 3 for each camera; empty: none', floats=True),
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
)

_MATCHING = (
    Parameter(
        'match',
        'expected',
        'nearest waits for the frame after the anchor; expected waits for it only where it may well be nearer, by the last '
        'frames of its camera; soonest takes what has come once it is within the limits',
        choices=MATCHES,
        live=True,
    ),
    _live('tolerance_ms', 20.0, 'largest skew of a follower camera to the anchor', 0.0, 10000.0),
    _live(
        'camera_period_ms',
        0.0,
        'frame period of the followers, the shortest if they differ, where it shall not be learned: an earlier frame within '
        'half of it is taken at once; 0 declares none',
        0.0,
        10000.0,
    ),
    _live('max_wait_ms', 200.0, 'an anchor gives up on silent streams when a newer anchor is this much later', 1.0, 60000.0),
    _live('joint_max_age_ms', 100.0, 'joints rest on samples no further than this from the anchor', 1.0, 60000.0),
    _live('horizon_s', 1.0, 'how long frames are kept; a stamp this far backwards is a jump of the clock', 0.05, 60.0),
)

_CONTENT = (
    Parameter(
        'content_faults',
        'warn',
        'what to do when data do not look like the training data, where the checkpoint has a profile of these. '
        'warn: tell it in diagnostics and summaries; refuse: also drop sets as content:<fault> while it lasts; off: do not '
        'look',
        choices=POLICIES,
    ),
)

_DIAGNOSTICS = (
    _live(
        'silence_s',
        3.0,
        'after this long without a set the log says why; an input this long silent is an ERROR',
        0.5,
        3600.0,
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


def parameters(cameras: Sequence[str] = CAMERAS) -> tuple[Parameter, ...]:
    """Every parameter of a node with these cameras, in the order in which the documentation lists them."""
    return (
        Parameter(
            'autostart', True, 'configure and activate at start; false leaves that to a lifecycle manager', read_only=True
        ),
        *(_topic(camera, f'{camera}/image') for camera in cameras),
        *_INPUTS,
        *_ENCODER,
        Parameter('cameras', list(cameras), 'the cameras, 1 to 8, in the channel order of the stacked image, as in training'),
        *_OBSERVATION,
        Parameter(
            'anchor',
            '',
            'the camera whose every frame asks for a set; empty: global where there is one, else the first of cameras',
            choices=('', *cameras),
        ),
        *_MATCHING,
        *(_stamp_offset(source) for source in (*cameras, JOINTS)),
        *_CONTENT,
        *_DIAGNOSTICS,
    )
