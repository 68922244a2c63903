"""Measures a CPU for the predictor: each kind of operation, forward and backward, at a few shapes; some minutes.

Rates are a fit without negative ones that weighs all shapes alike. Small whole steps then tell by how much each kind is
slower among the others than alone, and what none of them covers ("rest": sums of gradients, masks, Python); DeepSpeed's
update is what its steps take beyond bare ones. With one thread times are processor time, so that other work on the
machine counts little.
"""

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from model.dropout import Dropout
from model.guesses import read_guesses
from model.layers import LayerNorm
from model.objectives.base import Batch
from model.products import Linear
from model.tiles import attend_by_tiles, tiles_of
from pipeline.base.config import RunConfig, load_config
from pipeline.planning.counts import nets_of
from pipeline.planning.exchange import measure_exchange
from pipeline.planning.machine import Machine
from pipeline.planning.micro import micro_of, one_document_a_row, random_rows, seen_in
from pipeline.planning.neighbour import neighbours
from pipeline.planning.work import Counts, attention, linear, micro_work, update_work
from pipeline.training.engine import Engine
from pipeline.training.precision import make_objective
from pipeline.training.ranks import Ranks

ROUNDS, PASSES = 3, 3
"""Runs of a shape, of which the quickest counts; and passes over all, whose median does: machines have slow moments."""
PRECISIONS = ("fp32", "bf16")
LINEAR = (
    (2048, 64, 192),
    (2048, 192, 192),
    (1024, 320, 960),
    (2048, 320, 1280),
    (512, 640, 1920),
    (1024, 896, 2560),
    (160, 192, 6000),
    (160, 320, 24000),
    (160, 896, 40000),
)
ATTENTION = ((16, 96, 2, 48), (16, 96, 6, 48), (4, 192, 4, 80), (2, 400, 4, 64), (48, 48, 2, 64))
"""Rows, length, heads, size of a head."""
ELEMENTS = ((512, 192), (1024, 320), (2048, 960))
LOOKUP = ((1024, 192, 2000), (2048, 192, 20000), (1024, 640, 12000), (1024, 896, 40000))
SCORES = ((64, 6000), (160, 24000), (320, 12000))
WHOLE = (
    ("electra", 192, 3, 8, 96),
    ("electra", 320, 4, 16, 96),
    ("electra", 448, 4, 8, 256),
    ("modernbert", 192, 4, 16, 96),
    ("modernbert", 320, 6, 4, 96),
    ("modernbert", 320, 4, 4, 384),
)
"""Body, width, layers, rows and length of small whole steps."""
STATE = ((64, 2, 20_000), (192, 6, 20_000), (192, 2, 60_000))
"""Width, layers and vocabulary of models whose update is measured."""


Sample = tuple[Counts, float]
"""Counts and seconds."""


def calibrate(ranks: Ranks, say: Callable[[str], None], together: int = 1) -> Machine:
    """Rates of this machine for one rank's threads, fp32 and bf16, while `together` ranks work in all.

    say: told what is being measured.
    """
    threads = torch.get_num_threads()
    clock = time.process_time if threads == 1 else time.perf_counter
    rates: dict[str, tuple[float, ...]] = {}

    def passes(what: str, measured: Callable[[], dict[str, list[Sample]]]) -> dict[str, list[Sample]]:
        """By name the samples of some passes, each with the median of its seconds."""
        found = []
        with neighbours(together - 1, threads):
            for number in range(PASSES):
                say(f"{what}, pass {number + 1} of {PASSES}")
                found.append(measured())
        return {name: [_middle(one) for one in zip(*(each[name] for each in found), strict=True)] for name in found[0]}

    for key, samples in passes("kinds of operations", lambda: dict(_all_kinds(clock))).items():
        rates[key] = fit(samples)
    say("the exchange between two ranks")
    link, host = measure_exchange()
    name = f"{platform.machine()}, {together} rank(s) of {threads} thread(s)"
    machine = Machine(name, rates, link, host, {"torch": torch.__version__, "python": platform.python_version()})
    steps = passes("small whole steps", lambda: {p: list(_whole(machine, p, clock)) for p in PRECISIONS})
    updates = passes("DeepSpeed's update", lambda: {f"update {n}": _updates(ranks, n, clock) for n in range(3)})
    for precision, samples in steps.items():
        slower, *rest = fit(samples)
        slower = slower or 1.0
        rates |= {key: tuple(slower * rate for rate in rates[key]) for key in rates if key.endswith(precision)}
        rates[f"rest {precision}"] = tuple(rest)
    return replace(machine, rates=rates | {key: fit(samples) for key, samples in updates.items()})


def _middle(samples: Sequence[Sample]) -> Sample:
    return samples[0][0], statistics.median(seconds for _, seconds in samples)


def _updates(ranks: Ranks, stage: int, clock: Callable[[], float]) -> list[Sample]:
    return [_update(ranks, size, stage, clock) for size in STATE]


def _all_kinds(clock: Callable[[], float]) -> Iterable[tuple[str, list[Sample]]]:
    for precision in PRECISIONS:
        for kind, samples in _kinds(precision, clock):
            yield f"{kind} {precision}", samples


def fit(samples: list[Sample]) -> tuple[float, ...]:
    """Rates, none below 0, that bring the sum of the counts near the seconds; errors count in proportion."""
    wanted = [max(seconds, 1e-9) for _, seconds in samples]
    rows = np.array([np.array(counts) / seconds for (counts, _), seconds in zip(samples, wanted, strict=True)])
    scale = np.abs(rows).max(0)
    scale[scale == 0] = 1.0
    used = list(range(rows.shape[1]))
    found = np.zeros(rows.shape[1])
    while used:
        part, *_ = np.linalg.lstsq(rows[:, used] / scale[used], np.ones(len(rows)), rcond=None)
        if (part >= 0).all():
            found[used] = part / scale[used]
            break
        used.pop(int(part.argmin()))
    return tuple(float(x) for x in found)


def _seconds(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    work()
    times = []
    for _ in range(ROUNDS):
        began = clock()
        work()
        times.append(clock() - began)
    return min(times)


def _computing(precision: str) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def _both_ways(forward: Callable[[Tensor], Tensor], x: Tensor, precision: str) -> Callable[[], None]:
    x.requires_grad_()

    def work() -> None:
        x.grad = None
        with _computing(precision):
            out = forward(x)
        out.backward(torch.ones_like(out))

    return work


def _kinds(precision: str, clock: Callable[[], float]) -> Iterable[tuple[str, list[Sample]]]:
    """Each kind's samples: counts and seconds."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def time_of(forward: Callable[[Tensor], Tensor], x: Tensor) -> float:
        return _seconds(_both_ways(forward, x, precision), clock)

    found: list[Sample] = []
    for rows, inside, outside in LINEAR:
        layer = Linear(inside, outside)
        found.append((linear(rows, inside, outside), time_of(layer, torch.randn(rows, inside))))
    yield "linear", found
    found = []
    for rows, seq, heads, size in ATTENTION:
        groups = torch.zeros(rows, seq, dtype=torch.int64)
        tiles, seen = tiles_of(groups, None), seen_in(groups, None)
        qkv = torch.randn(rows, seq, 3 * heads * size, dtype=dtype)
        attend = lambda x, heads=heads, tiles=tiles: attend_by_tiles(x, heads, tiles, None, 0.1)  # noqa: E731
        found.append((attention(seen, rows * seq, heads, heads * size), time_of(attend, qkv)))
    yield "attention", found
    dropout = Dropout(0.1)
    for kind, forward in (("gelu", gelu), ("dropout", dropout)):
        yield kind, [((float(a * b), 1.0), time_of(forward, torch.randn(a, b, dtype=dtype))) for a, b in ELEMENTS]
    yield "norm", [((float(a * b), 1.0), time_of(LayerNorm(b), torch.randn(a, b))) for a, b in ELEMENTS]
    found = []
    for tokens, width, vocab in LOOKUP:
        table, ids = nn.Embedding(vocab, width), torch.randint(vocab, (tokens,))

        def look(table: nn.Embedding = table, ids: Tensor = ids) -> None:
            table.weight.grad = None
            table(ids).sum().backward()

        found.append(((float(tokens * width), float(vocab * width), 1.0), _seconds(look, clock)))
    yield "lookup", found
    found = []
    for rows, vocab in SCORES:
        targets, chosen = torch.randint(vocab, (1, rows)), torch.ones(1, rows, dtype=torch.bool)
        uniforms = torch.rand(1, rows, 2, dtype=torch.float64)
        read = lambda x, t=targets, c=chosen, u=uniforms: read_guesses(x, t, c, u)[0]  # noqa: E731
        found.append(((float(rows * vocab), float(rows), 1.0), time_of(read, torch.randn(1, rows, vocab, dtype=dtype))))
    yield "scores", found


def _whole(machine: Machine, precision: str, clock: Callable[[], float]) -> Iterable[Sample]:
    """Of small whole steps what the kinds, measured alone, foretell, and the counts of "rest"; and their seconds."""
    for body, width, layers, rows, seq in WHOLE:
        values = {"model.body": body, "model.hidden_size": width, "model.layers": layers, "train.precision": precision}
        config = _config({**values, "train.micro_batch_size": rows}, seq, 6000)
        objective, batch = make_objective(config, 6000), random_rows(rows, seq, 6000)
        totals = objective.counts(batch)

        def step(objective: Any = objective, batch: Batch = batch, totals: Any = totals) -> None:
            objective.zero_grad()
            objective(batch, totals)[0].backward()

        work = micro_work(nets_of("electra", config.model, 6000), micro_of(config, one_document_a_row(rows, seq)))
        rest = work.pop("rest")
        yield (machine.seconds(work, precision), *rest), _seconds(step, clock)


def _update(ranks: Ranks, size: tuple[int, int, int], stage: int, clock: Callable[[], float]) -> Sample:
    """Counts of the kind "update", and the seconds that a step takes beyond a bare forward and backward."""
    width, layers, vocab = size
    values = {"model.hidden_size": width, "model.layers": layers, "train.precision": "fp32"}
    config = _config({**values, "train.micro_batch_size": 1, "deepspeed.zero_optimization.stage": stage}, 16, vocab)
    engine, batch = Engine(config, vocab, ranks), random_rows(1, 16, vocab)
    totals = engine.objective.counts(batch)

    def step() -> None:
        loss, _ = engine.micro_step(batch, totals, 1.0)
        engine.update(loss)

    whole = _seconds(step, clock)
    bare = make_objective(config, vocab)

    def plain() -> None:
        bare.zero_grad()
        bare(batch, totals)[0].backward()

    return update_work(nets_of("electra", config.model, vocab), 1.0), max(whole - _seconds(plain, clock), 1e-6)


def _config(values: dict[str, Any], seq: int, vocab: int) -> RunConfig:
    width = values["model.hidden_size"]
    settings = {
        "model.embedding_size": "null",
        "model.heads": width // 64,
        "model.ffn_size": 2 * width,
        "data.sequence_length": seq,
        "tokenizer.vocab_size": vocab,
        "train.batch_size": values["train.micro_batch_size"],
        "run_dir": "runs/calibration",
        **values,
    }
    return load_config(None, [f"{key}={value}" for key, value in settings.items()])
