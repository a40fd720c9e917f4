"""Work shared among threads: NumPy, SciPy's FFTs and BLAS release the interpreter while they compute."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def over(function: Callable[[Item], Result], items: Iterable[Item], threads: int = 0) -> list[Result]:
    """function of each item, in order; `threads` 0 means one for each core this process may use."""
    items = list(items)
    count = min(_count(threads), len(items))
    if count <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, items))


def another(threads: int = 0) -> Executor:
    """One more thread for what goes on beside the caller's; where one is all there is, what is submitted to it is
    computed at once.  `threads` as of `over`."""
    return ThreadPoolExecutor(1) if _count(threads) > 1 else _AtOnce()


class _AtOnce(Executor):
    """Computes in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


def _count(threads: int) -> int:
    return threads or len(os.sched_getaffinity(0))
