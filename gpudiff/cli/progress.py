"""Progress bars, one a piece of work, for commands that take a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bars(*works: str) -> Iterator[list[Callable[[int, int], None]]]:
    """For each piece of work a function (done, total) that moves its bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def mover(task: TaskID) -> Callable[[int, int], None]:
            def move(done: int, total: int) -> None:
                if not progress.tasks[task].started:
                    progress.start_task(task)
                progress.update(task, completed=done, total=total)

            return move

        yield [mover(progress.add_task(work, total=None, start=False)) for work in works]
