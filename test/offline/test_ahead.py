"""An iterator that runs ahead in a thread: the same items, errors in their place, and an end when it is given up."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator

import pytest

from fused_encoder_ros.offline.ahead import ahead


def test_the_same_items_and_never_more_than_the_limit_ahead() -> None:
    made: list[int] = []

    def items() -> Generator[int, None, None]:
        for number in range(200):
            made.append(number)
            yield number

    for number in ahead(items(), 4):
        assert len(made) <= number + 1 + 4 + 2  # one is being handed over, one made
    assert made == list(range(200))


def test_an_error_comes_after_what_was_made_before_it() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise ValueError('the bag ends here')

    got = []
    with pytest.raises(ValueError, match='the bag ends here'):
        for number in ahead(items(), 8):
            got.append(number)
    assert got == [1, 2]


def test_giving_up_closes_the_items_and_ends_the_thread() -> None:
    closed = threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    before = threading.active_count()
    numbers = ahead(items(), 2)
    assert next(numbers) == 1 and threading.active_count() == before + 1
    numbers.close()
    assert closed.is_set() and threading.active_count() == before


@pytest.mark.skipif(sys.platform != 'linux', reason='only there has each thread a priority of its own')
def test_what_runs_ahead_gives_way_to_who_asks() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def items() -> Generator[int, None, None]:
        yield niceness()

    before = niceness()
    (inner,) = ahead(items(), 1)
    assert inner > before or before == 19
    assert niceness() == before
