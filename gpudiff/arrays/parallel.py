"""Work shared among threads: NumPy, SciPy's FFTs and BLAS release the interpreter while they compute."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def over(function: Callable[[Item], Result], items: Iterable[Item], threads: int = 0) -> list[Result]:
    """function of each item, in order; `threads` 0 means one for each core this process may use."""
    items = list(items)
    count = min(threads or len(os.sched_getaffinity(0)), len(items))
    if count <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, items))
