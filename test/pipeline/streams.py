"""Random recordings: what three cameras and some joint publishers send, and what the way here does to it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import strategies as st
from oracle import Message
from ros_messages import MS, T0

from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.spec import CAMERAS

JOINT_COUNT = 3


@dataclass(frozen=True)
class Stream:
    """One publisher. Times in milliseconds, shares in percent.

    Attributes:
        drift: how much too fast its clock runs.
        jitter_ms: largest error of a stamp.
        delay_ms, delay_jitter_ms: time under way, always the same and random; enough of the second changes the order.
        burst: messages that come together, all as late as the last of them.
        stall_ms: begin and end of a time in which nothing is sent.
        jumps: (time, by how much) of steps of its clock.
        joints: of a joint publisher, the joints it brings.
    """

    source: str
    period_ms: int
    phase_ms: int = 0
    drift: int = 0
    jitter_ms: int = 0
    delay_ms: int = 0
    delay_jitter_ms: int = 0
    lost: int = 0
    twice: int = 0
    unstamped: int = 0
    burst: int = 1
    stall_ms: tuple[int, int] = (0, 0)
    jumps: tuple[tuple[int, int], ...] = ()
    joints: tuple[int, ...] = ()


def record(streams: list[Stream], duration_ms: int, seed: int, grain_ns: int = MS) -> list[Message]:
    """All messages in the order of their arrival; stamps are whole multiples of `grain_ns`."""
    rng = random.Random(seed)
    arrivals: list[tuple[float, int, str, int, tuple[int, ...]]] = []
    for stream in streams:
        sent = range(stream.phase_ms, duration_ms, stream.period_ms)
        for number, ms in enumerate(sent):
            begin, end = stream.stall_ms
            if begin <= ms < end or rng.randrange(100) < stream.lost:
                continue
            clock_ms = ms * (1 + stream.drift / 100) + sum(by for at, by in stream.jumps if ms >= at)
            clock_ms += rng.uniform(-stream.jitter_ms, stream.jitter_ms)
            stamp_ns = T0 + round(clock_ms * MS / grain_ns) * grain_ns
            if rng.randrange(100) < stream.unstamped:
                stamp_ns = rng.choice((0, -5 * MS))
            last_of_burst = min(number - number % stream.burst + stream.burst, len(sent)) - 1
            for _ in range(2 if rng.randrange(100) < stream.twice else 1):
                arrived_ms = sent[last_of_burst] + stream.delay_ms + rng.uniform(0, stream.delay_jitter_ms)
                arrivals.append((arrived_ms, len(arrivals), stream.source, stamp_ns, stream.joints))
    return [
        Message(number, source, stamp_ns, {joint: rng.uniform(-3, 3) for joint in joints})
        for number, (_, _, source, stamp_ns, joints) in enumerate(sorted(arrivals), 1)
    ]


def rarely(strategy: st.SearchStrategy[int]) -> st.SearchStrategy[int]:
    """Mostly 0."""
    return st.one_of(st.just(0), st.just(0), strategy)


CLOCK_STEPS = st.lists(st.tuples(st.integers(0, 900), st.sampled_from((-5000, -700, -450, -320, -150, 400, 3000))), max_size=2)
STALLS = st.tuples(st.integers(0, 700), rarely(st.integers(30, 600))).map(lambda pair: (pair[0], sum(pair)))


def streams(
    source: str, least_ms: int, most_ms: int, joints: tuple[int, ...] = (), wild: bool = True, twice: bool = True
) -> st.SearchStrategy:
    """A publisher; one that is not wild sends in order, and its stamps neither step nor fail."""
    strange: dict[str, st.SearchStrategy] = {
        'delay_jitter_ms': rarely(st.integers(0, 150)),
        'unstamped': rarely(st.integers(0, 20)),
        'jumps': st.one_of(*[st.just(())] * 3, CLOCK_STEPS.map(tuple)),
    }
    return st.builds(
        Stream,
        source=st.just(source),
        joints=st.just(joints),
        period_ms=st.integers(least_ms, most_ms),
        phase_ms=st.integers(0, 60),
        drift=rarely(st.integers(-5, 5)),
        jitter_ms=rarely(st.integers(0, least_ms // 2 - 1)),
        delay_ms=st.integers(0, 60),
        lost=rarely(st.integers(0, 40)),
        burst=st.sampled_from((1, 1, 1, 2, 4)),
        stall_ms=STALLS,
        **(strange if wild else {}),
        **({'twice': rarely(st.integers(0, 30))} if twice else {}),
    )


@st.composite
def recordings(draw: st.DrawFn, wild: bool = True, twice: bool = True) -> list[Message]:
    """Three cameras and one to three joint publishers, which each bring some of the joints."""
    shares = draw(st.sampled_from((((0, 1, 2),), ((0, 1), (2,)), ((0,), (1,), (2,)), ((0, 1), (1, 2)))))
    # Quick ones send more frames than a camera's rhythm is learned from; jitter is then the rule.
    least_ms, most_ms, jitter_ms = draw(st.sampled_from(((15, 60, None), (8, 14, 3))))
    publishers = [draw(streams(camera, least_ms, most_ms, wild=wild, twice=twice)) for camera in CAMERAS]
    if jitter_ms:
        publishers = [Stream(**{**vars(p), 'jitter_ms': draw(st.integers(0, jitter_ms))}) for p in publishers]
    shares = () if not wild and shares == ((0, 1), (1, 2)) else shares
    publishers += [draw(streams(JOINTS, 5, 40, joints, wild, twice)) for joints in shares]
    everybodys_step = draw(st.one_of(st.just([]), CLOCK_STEPS)) if wild else []
    if everybodys_step:
        publishers = [Stream(**{**vars(p), 'jumps': (*p.jumps, *everybodys_step)}) for p in publishers]
    return record(publishers, draw(st.integers(300, 1000)), draw(st.integers(0, 10**6)), draw(st.sampled_from((MS, 1000))))
