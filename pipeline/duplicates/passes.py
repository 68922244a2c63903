"""Running a pass: what units have done is not done again, and files that are not needed any more go."""

from collections.abc import Callable

from pipeline.base.files import remove_tree
from pipeline.base.workers import Workers
from pipeline.duplicates.plan import Job
from pipeline.duplicates.scratch import write_whole


def run_pass(job: Job, workers: Workers, name: str, function: Callable[..., None], units: int, *more: int) -> None:
    """function(job, unit, *more) for each unit that the pass has; nothing once the pass is marked as done."""
    mark = job.out / f"{name}.done"
    if not mark.exists():
        for _ in workers.map_unordered(function, ((job, unit, *more) for unit in range(units))):
            pass
        write_whole(mark, b"")


def discard(job: Job, *names: str) -> None:
    """Removes the files of passes whose successors are done."""
    for name in names:
        remove_tree(job.out / name)
