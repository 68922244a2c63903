"""The lines that pipeline/plan.py prints, from its arguments."""

import argparse
import sys
from collections.abc import Iterator

from pipeline.base.config import RunConfig, load_config
from pipeline.base.errors import UserError
from pipeline.planning.cards import card_of
from pipeline.planning.estimate import CardUse, Estimate, choices, estimate
from pipeline.planning.fitting import largest_fit, reckoned_fit
from pipeline.planning.machine import Link, Machine, read_machine, write_machine
from pipeline.planning.many import Cluster
from pipeline.planning.micro import with_rows
from pipeline.training.engine_config import check_batch, largest_share

GB = 1e9
INSIDE_LATENCY = 5e-6
"""Seconds of a message between two cards of a host, an assumption."""
BEST = 5


def calibrated(arguments: argparse.Namespace) -> Iterator[str]:
    """Measures this machine and keeps it."""
    from pipeline.planning.calibrate import calibrate
    from pipeline.training.distributed import start_ranks

    _check(arguments)
    say = lambda what: print(f"plan: measures {what}", file=sys.stderr, flush=True)  # noqa: E731
    machine = calibrate(start_ranks(arguments.threads), say, arguments.ranks)
    write_machine(arguments.calibrate, machine)
    yield f"{arguments.calibrate}: {machine.name}"
    for key, rates in sorted(machine.rates.items()):
        yield f"  {key:<16}" + " ".join(f"{rate:.3g}" for rate in rates)


def planned(arguments: argparse.Namespace) -> Iterator[str]:
    """The plan."""
    _check(arguments)
    config = load_config(arguments.config, arguments.settings)
    on: Machine | CardUse
    if arguments.machine:
        on = read_machine(arguments.machine)
        inside, memory = on.link, arguments.memory
    else:
        card = card_of(arguments.card)
        on, inside = CardUse(card, arguments.efficiency), Link(INSIDE_LATENCY, card.link)
        memory = arguments.memory or 0.9 * card.memory / GB
    between = Link(arguments.latency * 1e-6, arguments.network * GB)
    cluster = Cluster(arguments.hosts, arguments.ranks, inside, between, arguments.jitter)
    check_batch(config, cluster.world)
    vocab = config.tokenizer.vocab_size
    if config.train.micro_batch_size == "auto" and memory:
        fits = reckoned_fit(config, vocab, cluster.world, memory * GB, isinstance(on, Machine))
        most = largest_fit(fits, largest_share(config.train.batch_size, cluster.world))
        config = with_rows(config, most or 1)
    found = estimate(config, vocab, on, cluster)
    yield from _lines(config, found, cluster, arguments)
    if memory:
        yield from _best(config, sorted(choices(config, vocab, on, cluster, memory * GB), key=_rank), memory)


def _lines(config: RunConfig, found: Estimate, cluster: Cluster, arguments: argparse.Namespace) -> Iterator[str]:
    step, budget = found.step, arguments.tokens or float(config.train.steps * found.tokens)
    hours = found.hours(budget)
    yield f"parameters        {found.parameters:,}"
    zero = f"ZeRO stage {found.stage}, {config.train.precision}"
    yield f"ranks             {cluster.hosts} x {cluster.ranks_a_host}, {zero}"
    yield f"batch             {config.train.batch_size} sequences, {found.micro_steps} x {found.micro_batch} a rank"
    yield f"memory a rank     {found.memory.total / GB:.3f} GB, above the process's own"
    for name, size in found.memory.parts().items():
        yield f"  {name:<16}{size / GB:.3f} GB" + (", host memory" if name == "saves" and arguments.card else "")
    yield f"FLOPs a step      {found.flops:.3e}"
    yield f"time a step       {step.seconds:.4g} s"
    for name, seconds in (
        ("compute", step.compute),
        ("update", step.update),
        ("exchange", step.exposed),
        ("stragglers", step.waiting),
    ):
        yield f"  {name:<16}{seconds:.4g} s" + (f" of {step.exchange:.4g}" if name == "exchange" else "")
    yield f"tokens a second   {found.tokens_a_second:,.0f}, efficiency {step.efficiency:.3f}"
    price = f", {hours * arguments.price * cluster.hosts:,.0f} dollars" if arguments.price else ""
    yield f"to {budget:.3g} tokens  {hours:,.2f} hours{price}"


def _rank(one: Estimate) -> tuple[float, float]:
    return one.step.seconds, one.memory.total


def _best(config: RunConfig, fitting: list[Estimate], memory: float) -> Iterator[str]:
    if not fitting:
        raise UserError(
            f"nothing fits in {memory:.3g} GB a rank, not even one sequence at the highest ZeRO stage: take a shorter "
            "data.sequence_length, a smaller model or more ranks."
        )
    yield f"quickest in {memory:.3g} GB a rank"
    for one in fitting[:BEST]:
        yield (
            f"  ZeRO stage {one.stage}, micro-batch {one.micro_batch:<5} {one.step.seconds:.4g} s a step, "
            f"{one.memory.total / GB:.3f} GB"
        )


def _check(arguments: argparse.Namespace) -> None:
    for name in ("hosts", "ranks", "network", "latency", "efficiency", "memory", "tokens", "price", "threads"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name} is {value}: it must be above 0.")
    if arguments.efficiency > 1 or arguments.jitter < 0:
        raise UserError("--efficiency is a share of 1 at most, and --jitter not below 0.")
