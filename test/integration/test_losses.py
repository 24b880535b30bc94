"""Where messages went that the node never saw, from what the middleware reports and the publisher's numbering."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from fused_encoder_ros.ros.losses import Losses

S = 10**9


def settled() -> Losses:
    """Of a stream whose message 0 came more than two seconds ago."""
    losses = Losses()
    losses.arrived(0)
    losses.count(3 * S)
    losses.numbered(0)
    return losses


def count(losses: Losses, seconds: Iterable[int]) -> None:
    for second in seconds:
        losses.count(second * S)


def test_a_gap_that_the_middleware_does_not_report_was_overwritten_here() -> None:
    losses = settled()
    for number in (1, 2, 6, 7):
        losses.numbered(number)
    losses.count(4 * S)
    assert (losses.lost, losses.overwritten) == (0, 0)  # its report may come a moment later
    losses.count(5 * S)
    assert (losses.lost, losses.overwritten) == (0, 3)


@pytest.mark.parametrize('steps', [('report', 'count', 'gap'), ('report', 'gap'), ('gap', 'count', 'report')])
def test_a_report_just_before_beside_or_just_after_its_gap_explains_it(steps: tuple[str, ...]) -> None:
    losses = settled()
    seconds = itertools.count(4)
    for step in (*steps, *['count'] * 3):
        if step == 'report':
            losses.lost_some(4)
        elif step == 'gap':
            losses.numbered(5)
        else:
            losses.count(next(seconds) * S)
    assert (losses.lost, losses.overwritten) == (4, 0)


def test_of_a_larger_gap_the_rest_was_overwritten() -> None:
    losses = settled()
    losses.lost_some(4)
    losses.numbered(11)
    count(losses, range(4, 7))
    assert (losses.lost, losses.overwritten) == (4, 6)


def test_a_report_without_a_gap_explains_no_later_gap() -> None:
    """Fast DDS also reports what was sent before the subscription was known to the publisher."""
    losses = settled()
    losses.lost_some(100)
    count(losses, range(4, 8))
    losses.numbered(3)
    count(losses, range(8, 11))
    assert (losses.lost, losses.overwritten) == (100, 2)


def test_nothing_counts_while_a_stream_settles_and_after_something_joined() -> None:
    losses = Losses()
    for at, number in ((0, 0), (1 * S, 9), (int(1.9 * S), 20)):
        losses.arrived(at)
        losses.numbered(number)
        losses.lost_some(1)
        losses.count(at)
    losses.count(3 * S)
    losses.count(4 * S)
    assert (losses.lost, losses.overwritten) == (0, 0)
    losses.lost_some(1)
    losses.joined()
    losses.numbered(500)  # of a new publisher, or the old one for a new subscription
    for second in range(5, 9):
        losses.arrived(second * S)
        losses.count(second * S)
    assert (losses.lost, losses.overwritten) == (0, 0)


def test_a_publisher_that_begins_anew_has_lost_nothing() -> None:
    losses = settled()
    for number in (1, 2, 1, 2, 3):
        losses.numbered(number)
    losses.count(4 * S)
    losses.count(5 * S)
    assert losses.overwritten == 0


def test_without_numbers_it_is_not_known_what_was_overwritten() -> None:
    losses = Losses()
    losses.arrived(0)
    for second in range(5):
        losses.count(second * S)
    assert losses.overwritten is None
