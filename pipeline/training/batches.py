"""The next global batch, on all ranks or on none; what becomes of a shard that cannot be read (data.on_bad_shard).

Under `skip` one rank's finding is every rank's: all leave the shard out from the same batch on, and note it in the
state, so that a resumed run reads what an unbroken one had read. Price: nothing while all shards are sound; then the
batches made ahead are made anew.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from pipeline.base.errors import UserError
from pipeline.base.log import get_logger
from pipeline.stream.bad import BadShard
from pipeline.stream.loader import Prefetcher, Rows
from pipeline.training.checkpoint import TrainState
from pipeline.training.ranks import Ranks
from pipeline.training.run import Run


def next_batch(run: Run, batches: Prefetcher, state: TrainState) -> tuple[Rows | None, TrainState]:
    """This rank's rows of the next batch, None where any rank was asked to stop; the state with new bad shards.

    Collective. UserError on all ranks where one has it, or a bad shard is not to be left out.
    """
    ranks, place = run.ranks, f"step {state.step + 1:,}"
    while True:
        ranks.watch.beat(f"{place}: waits for data")
        found: list[UserError] = []
        rows = ranks.attempt(partial(_noted, batches, found))
        ranks.watch.beat(f"{place}: agrees with the other ranks")
        try:
            stop = ranks.agreed_to_stop()
        except UserError as error:
            names = agreed_bad(ranks, found)
            if run.config.data.on_bad_shard == "stop" or names is None:
                raise
            if ranks.rank == 0:
                get_logger().warning(f"{error} It is left out from step {state.step + 1} on.")
            state = leave_out(run, state, names)
            batches.restart(state.position)
            continue
        return (None if stop else rows), state


def agreed_bad(ranks: Ranks, found: Sequence[UserError]) -> list[str] | None:
    """The shards that any rank could not read, after all were told of an error; None where one has another error."""
    own = [error.shard if isinstance(error, BadShard) else None for error in found]
    names = {name for one in ranks.gather(own) for name in one}
    return None if None in names or not names else sorted(names)


def leave_out(run: Run, state: TrainState, names: Sequence[str]) -> TrainState:
    """Reads other sequences in place of those in these shards, and notes it. UserError where too much is missing."""
    run.stream.leave_out(names)
    bad = tuple(sorted({*state.bad_shards, *names}))
    if run.ranks.rank == 0:
        run.tracker.tags({"bad_shards": ", ".join(bad)})
    return replace(state, bad_shards=bad)


def _noted(batches: Prefetcher, found: list[UserError]) -> Rows:
    try:
        return batches.next()
    except UserError as error:
        found.append(error)
        raise
