"""Work side by side: what is made ahead of who takes it, and what is written behind who gives it."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], most: int = 1, stop: Callable[[], object] = lambda: None) -> Generator[T, None, None]:
    """The same items, made in a thread of its own while those before them are worked on; at most `most` wait.

    What making one raises is raised where it was due. The first is begun when it is asked for. At the end, which may be
    an error or closing, `stop` is called, and what is begun is waited for.
    """
    end: Any = object()
    with ThreadPoolExecutor(1, "ahead") as pool:
        try:
            due = deque(pool.submit(next, items, end) for _ in range(most))
            while (item := due.popleft().result()) is not end:
                due.append(pool.submit(next, items, end))
                yield item
        finally:
            stop()
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def behind(write: Callable[[T], None], most: int) -> Iterator[Callable[[T], None]]:
    """`write` in a thread of its own, in the order of the calls and at most `most` of them behind.

    All is written when the block ends. What a call raises is raised by one of the next or at the end, and nothing that
    was given after it is written. Where the block ends with an error, what still waits is let go.
    """
    due: deque[Future[None]] = deque()
    failed = False

    def work(item: T) -> None:
        nonlocal failed
        if not failed:
            failed = True
            write(item)
            failed = False

    with ThreadPoolExecutor(1, "behind") as pool:

        def give(item: T) -> None:
            while due and (len(due) >= most or due[0].done()):
                due.popleft().result()
            due.append(pool.submit(work, item))

        try:
            yield give
            while due:
                due.popleft().result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
