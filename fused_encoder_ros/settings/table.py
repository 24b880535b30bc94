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
    return Parameter(f'topics.{source}', default, f'topic of {source}; remappings work too')


def _stamp_offset(source: str) -> Parameter:
    what = 'the joints' if source == JOINTS else source
    return Parameter(
        f'{STAMP_OFFSET}{source}',
        0.0,
        f'added to the stamps of {what} before matching, in ms; negative if the data are older than their stamps say',
        -1000,
        1000,
    )


def _live(name: str, default: float, description: str, minimum: float, maximum: float) -> Parameter:
    return Parameter(name, default, description, minimum, maximum, live=True)


_INPUTS = (
    Parameter(
        f'topics.{JOINTS}',
        ['joint_states'],
        'one or more topics of the joints, each with all or some of them; remappings work too',
    ),
    Parameter(
        'image_transport',
        'raw',
        'raw: sensor_msgs/Image; compressed: sensor_msgs/CompressedImage on TOPIC/compressed. '
        'For one compressed camera only, use raw and name a topic that ends with /compressed',
        choices=('raw', 'compressed'),
    ),
    Parameter(
        'reliability',
        'auto',
        'QoS of the inputs; auto means reliable if every publisher is reliable, else best effort',
        choices=('auto', 'reliable', 'best_effort'),
    ),
    Parameter('image_depth', 5, 'QoS queue depth of each camera, in messages', 1, 1000),
    Parameter('joint_depth', 200, 'QoS queue depth of each joint topic, in messages', 1, 10000),
)

_ENCODER = (
    Parameter(
        'checkpoint',
        '',
        "path of the encoder's state dict or of a packed checkpoint; if empty, the encoder has random weights and its "
        'features mean nothing',
    ),
    Parameter(
        'design', 'auto', 'design of the encoder; auto takes the one that the checkpoint holds', choices=('auto', *DESIGNS)
    ),
    Parameter('seed', 0, 'seed of the random weights if there is no checkpoint', 0, 2**31 - 1),
    Parameter('device', 'auto', 'auto, cpu, cuda or cuda:N; auto takes CUDA if it works and the engine can use it'),
    Parameter(
        'engine',
        'auto',
        'software that runs the encoder; auto takes the first of the others that runs on this machine and is exact enough; '
        'eager is plain torch, the reference',
        choices=ENGINES,
    ),
    Parameter(
        'precision',
        'fp32',
        'fp16 (CUDA only) and bf16 are faster if the hardware supports them, and less exact',
        choices=PRECISIONS,
    ),
    Parameter('threads', 2, 'number of CPU threads of the encoder; it changes the last bits of a feature', 1, 256),
)

_OBSERVATION = (
    Parameter('image_size', 84, 'side of the square that each image is resized to, in pixels', 8, 1024),
    Parameter('interpolation', 'linear', "OpenCV's resize method, as in training", choices=INTERPOLATIONS),
    Parameter('pixel_divisor', 255.0, 'every pixel is divided by this', 1e-6, 1e6),
    Parameter(
        'pixel_mean',
        [],
        'mean of each channel after the division: 3 values for all cameras, or 3 values per camera; if empty, pixels are only '
        'divided',
        floats=True,
    ),
    Parameter('pixel_std', [], 'standard deviation of each channel; set it together with pixel_mean', floats=True),
    Parameter('joint_names', list(DEFAULT_JOINT_NAMES), "the joints, in the order of the encoder's input"),
    Parameter('joint_mean', [], 'mean of each joint, in rad or m; if empty, positions are not standardised', floats=True),
    Parameter('joint_std', [], 'standard deviation of each joint; set it together with joint_mean', floats=True),
    Parameter(
        'untyped_color_order',
        '',
        'channel order of images with the encoding 8UC3 or 8UC4, which does not say it: rgb or bgr; if empty, they are '
        'refused',
        choices=('', 'rgb', 'bgr'),
    ),
)

_MATCHING = (
    Parameter(
        'match',
        'expected',
        'how long a set waits for the other cameras. nearest: until no nearer frame can come; expected: for the next frame of '
        'a camera only if it is likely to be nearer; soonest: until any frame within tolerance_ms has come',
        choices=MATCHES,
        live=True,
    ),
    _live('tolerance_ms', 20.0, 'largest skew between another camera and the anchor, in ms', 0.0, 10000.0),
    _live(
        'camera_period_ms',
        0.0,
        'frame period of the other cameras (the shortest, if they differ), in ms, which the node then does not learn: an '
        'earlier frame within half of it is taken at once; 0: not set; with match: soonest it has no effect',
        0.0,
        10000.0,
    ),
    _live(
        'max_wait_ms',
        200.0,
        'an anchor frame stops waiting for silent streams once two newer anchor frames are this much later, in ms',
        1.0,
        60000.0,
    ),
    _live(
        'joint_max_age_ms',
        100.0,
        "joint samples further than this from the anchor's stamp are not used, in ms; a joint needs one before it and one "
        'after it, or only the one before if none has come after it',
        1.0,
        60000.0,
    ),
    _live(
        'horizon_s',
        1.0,
        'how long frames are kept, in s; if a stamp goes back by more than this, the clock has jumped; no shorter than '
        'tolerance_ms, joint_max_age_ms and max_wait_ms',
        0.05,
        60.0,
    ),
)

_CONTENT = (
    Parameter(
        'content_faults',
        'warn',
        'what to do if the data do not look like the training data; this needs a checkpoint that contains a profile. '
        'warn: report it in diagnostics and summaries; refuse: also drop the sets, as content:<fault>, while it lasts; off: '
        'do not check',
        choices=POLICIES,
    ),
)

_DIAGNOSTICS = (
    _live(
        'silence_s',
        3.0,
        'after this long without a set, in s, the log says why; an input that is silent for this long is an ERROR',
        0.5,
        3600.0,
    ),
    _live('diagnostics.min_camera_rate_hz', 0.0, 'a camera slower than this, in Hz, is a WARN; 0: never', 0.0, 10000.0),
    _live('diagnostics.min_joint_rate_hz', 0.0, 'a joint topic slower than this, in Hz, is a WARN; 0: never', 0.0, 100000.0),
    _live(
        'diagnostics.max_drop_share',
        0.1,
        'a larger share of dropped anchor frames in the last ten seconds is a WARN',
        0.0,
        1.0,
    ),
    _live(
        'diagnostics.max_latency_ms',
        0.0,
        "a higher 95th percentile of the latency from the anchor's stamp to its feature, in ms, is a WARN; 0: never",
        0.0,
        3600000.0,
    ),
    _live(
        'diagnostics.max_still_s',
        2.0,
        'a picture that stays the same, bit for bit, for longer than this, in s, is a WARN; 0: never',
        0.0,
        3600.0,
    ),
    _live(
        'diagnostics.hold_s',
        3.0,
        'a level of the diagnostics falls only after the state has been better for this long, in s',
        0.0,
        3600.0,
    ),
)


def parameters(cameras: Sequence[str] = CAMERAS) -> tuple[Parameter, ...]:
    """Every parameter of a node with these cameras, in the order in which the documentation lists them."""
    return (
        Parameter(
            'autostart',
            True,
            'whether the node configures and activates itself at the start; with false, a lifecycle manager does that',
            read_only=True,
        ),
        *(_topic(camera, f'{camera}/image') for camera in cameras),
        *_INPUTS,
        *_ENCODER,
        Parameter(
            'cameras', list(cameras), 'names of the cameras, 1 to 8, in the channel order of the stacked image, as in training'
        ),
        *_OBSERVATION,
        Parameter(
            'anchor',
            '',
            'the reference camera: each of its frames ends as a set or a drop; if empty, it is the camera named global, or '
            'the first one if there is no global',
            choices=('', *cameras),
        ),
        *_MATCHING,
        *(_stamp_offset(source) for source in (*cameras, JOINTS)),
        *_CONTENT,
        *_DIAGNOSTICS,
    )
