"""The options of matching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fused_encoder_ros.errors import ConfigError

MATCHES = ('expected', 'nearest', 'soonest')
"""What an anchor may wait for; `SyncOptions` says what each means."""


@dataclass(frozen=True)
class SyncOptions:
    """How sets are matched. All times are differences of stamps, in nanoseconds.

    `match` decides how long an anchor frame waits for the other cameras (the followers) and the joints:

    - 'nearest': until no better data can come, that is, until each follower has sent a frame, and each joint a sample, at or
      after the anchor's stamp.
    - 'expected': the same, except that a follower's earlier frame within `tolerance_ns` is taken if it is at least as near as
      the follower's next frame is expected to be. The expectation comes from the last `frames.STEPS_LEARNED` steps between
      stamps of that follower; before there are so many, the anchor waits as with 'nearest'. The earlier frame is taken even if
      the next one has arrived already, so the choice depends on each camera's own stamps alone.
    - 'soonest': no longer than until something within the limits has arrived: for each follower, a frame within
      `tolerance_ns`; for each joint, the interpolated position if there are samples on both sides of the stamp, else the last
      sample before it if that is within `joint_max_age_ns`. The skew is larger. The sets depend on which topic's message came
      first, so a bag gives the robot's sets only if it holds the messages in the order in which the node received them.

    No mode extrapolates.

    Attributes:
        anchor: the reference camera: each of its frames ends as a set or a drop.
        match: 'expected', 'nearest' or 'soonest'.
        tolerance_ns: the largest skew of a follower's frame; frames further from the anchor's stamp do not match.
        camera_period_ns: frame period of the followers, declared instead of learned; it counts with 'nearest' too, but not
            with 'soonest'. 0 declares none.
        max_wait_ns: an anchor frame stops waiting for a silent stream once two newer anchor frames are this much later.
        joint_max_age_ns: joint positions use only samples within this time of the anchor's stamp: both of those around it, or
            the last before it if none has come after it.
        horizon_ns: how long frames and joint samples are kept; no shorter than the three times above. A stamp that is this
            much earlier than the newest of its stream means that the stream's clock jumped.
        stamp_offsets_ns: what is added to the stamps of a source before matching; sources without an offset are left out.
    """

    anchor: str = 'global'
    match: str = 'expected'
    tolerance_ns: int = 20_000_000
    camera_period_ns: int = 0
    max_wait_ns: int = 200_000_000
    joint_max_age_ns: int = 100_000_000
    horizon_ns: int = 1_000_000_000
    stamp_offsets_ns: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.match not in MATCHES:
            raise ConfigError(f'match: {self.match!r} is unknown; use one of {list(MATCHES)}')
        needed = max(self.tolerance_ns, self.joint_max_age_ns, self.max_wait_ns)
        if self.horizon_ns < needed:
            raise ConfigError(
                f'horizon_s: {self.horizon_ns / 1e9} is shorter than tolerance_ms, joint_max_age_ms or max_wait_ms '
                f'({needed / 1e6:g} ms); make the horizon longer, or the others shorter'
            )
        early_ns = max([0, *self.stamp_offsets_ns.values()]) - self._anchor_offset_ns
        kept_ns = max(self.tolerance_ns, self.joint_max_age_ns) + early_ns
        if self.horizon_ns < kept_ns:
            raise ConfigError(
                f'horizon_s: with these stamp_offset_ms, data come {early_ns / 1e6:g} ms before the anchor frame that they '
                f'belong to, and {self.horizon_ns / 1e9} s is too short to keep them; it must be at least {kept_ns / 1e9:g}'
            )

    @property
    def _anchor_offset_ns(self) -> int:
        return self.stamp_offsets_ns.get(self.anchor, 0)

    @property
    def late_ns(self) -> int:
        """By how much, going by `stamp_offsets_ns`, the data of a moment may come after the anchor's frame of it."""
        return self._anchor_offset_ns - min([0, *self.stamp_offsets_ns.values()])
