"""How sets are matched."""

from __future__ import annotations

from dataclasses import dataclass

from fused_encoder_ros.errors import ConfigError

MATCHES = ('expected', 'nearest', 'soonest')
"""What an anchor may wait for; `SyncOptions` says what each means."""


@dataclass(frozen=True)
class SyncOptions:
    """How sets are matched. All times are differences of stamps, nanoseconds.

    `match` says what an anchor waits for:

    - 'nearest': until no better frame and no better joint sample can come, that is the next frame of each follower, and a
      sample of each joint, at or after the anchor's stamp.
    - 'expected': the same, but a follower's earlier frame is taken, if within `tolerance_ns`, where it is at least as near
      as the next one is expected to be, by the last `frames.STEPS_LEARNED` steps from stamp to stamp of that camera. Until
      there have been so many, the next one is waited for. The earlier frame is taken also when the next one has come
      already, so that the choice depends on the stamps of each camera alone.
    - 'soonest': the nearest of what has come is taken as soon as that is within the limits: of each follower a frame
      within `tolerance_ns`; of each joint the interpolated position if samples lie around the stamp, else the last one
      before it, held, if within `joint_max_age_ns`. The skew is larger, and the sets depend on which topic's message came
      first: a bag gives the robot's sets only if it holds the messages in the order in which the node had them.

    None extrapolates.

    Attributes:
        anchor: the camera whose every frame asks for a set.
        match: one of `MATCHES`.
        tolerance_ns: a follower frame further than this from the anchor's stamp is no match.
        camera_period_ns: declared frame period of the followers, instead of one that is learned: the next frame is
            expected after it, with 'nearest' too. 0 declares none.
        max_wait_ns: an anchor gives up on a stream that is silent once two newer anchors are this much later.
        joint_max_age_ns: joints rest on samples no further than this from the anchor's stamp.
        horizon_ns: how long frames and joints are kept; a stamp that is this much before its stream's newest means
            that the stream's clock jumped.
    """

    anchor: str = 'global'
    match: str = 'expected'
    tolerance_ns: int = 20_000_000
    camera_period_ns: int = 0
    max_wait_ns: int = 200_000_000
    joint_max_age_ns: int = 100_000_000
    horizon_ns: int = 1_000_000_000

    def __post_init__(self) -> None:
        if self.match not in MATCHES:
            raise ConfigError(f'match: {self.match!r} is unknown; use one of {list(MATCHES)}')
        needed = max(self.tolerance_ns, self.joint_max_age_ns, self.max_wait_ns)
        if self.horizon_ns < needed:
            raise ConfigError(
                f'horizon_s: {self.horizon_ns / 1e9} is shorter than tolerance_ms, joint_max_age_ms or max_wait_ms '
                f'({needed / 1e6} ms); make the horizon longer'
            )
