"""Work side by side: order, errors, and what happens at an early end."""

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from stableavatar_jax.threads import ahead, behind


def test_items_are_made_ahead_in_their_order():
    made, taken = [], []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append((number, threading.current_thread().name))
            if number == 2:
                third.set()
            yield number

    third = threading.Event()
    for number in ahead(items(), 2):
        assert third.wait(10)  # while the first is taken
        taken.append(number)
    assert taken == list(range(5)) and all(name.startswith("ahead") for _, name in made)


def test_an_error_comes_where_the_item_was_due():
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    taken = ahead(items())
    assert next(taken) == 1
    with pytest.raises(ValueError, match="broken"):
        next(taken)


def test_closing_stops_what_is_under_way():
    stopped, begun = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 1
        begun.set()
        assert stopped.wait(10)  # a block that takes long, which listens

    with contextlib.closing(ahead(items(), stop=stopped.set)) as taken:
        assert next(taken) == 1
        assert begun.wait(10)
    assert stopped.is_set()


def test_all_is_written_in_order_and_no_more_wait_than_allowed():
    written, slow, given = [], threading.Event(), []

    def write(item: int) -> None:
        slow.wait(10)
        written.append(item)

    def give(put) -> None:
        for item in range(6):
            put(item)
            given.append(item)

    with behind(write, 2) as put:
        giver = threading.Thread(target=give, args=(put,))
        giver.start()
        while len(given) < 2:
            time.sleep(0.01)
        giver.join(0.1)
        assert given == [0, 1]
        slow.set()
        giver.join(10)
    assert written == list(range(6))


def test_nothing_is_written_after_what_failed():
    written = []

    def write(item: int) -> None:
        if item == 1:
            raise OSError("the disk is full")
        written.append(item)

    with pytest.raises(OSError, match="full"), behind(write, 8) as put:
        for item in range(5):
            put(item)
    assert written == [0]


def test_what_waits_is_let_go_after_an_error():
    written, begun, slow = [], threading.Event(), threading.Event()

    def write(item: int) -> None:
        begun.set()
        slow.wait(10)
        written.append(item)

    with pytest.raises(KeyboardInterrupt), behind(write, 8) as put:
        for item in range(5):
            put(item)
        begun.wait(10)
        threading.Timer(0.1, slow.set).start()
        raise KeyboardInterrupt
    assert written == [0]
