"""A training step on a GPU: sequences a second, share of the dense peak, memory; eager and compiled, padded and packed.

    python benchmarks/step.py --device cuda [--shape base] [--batch 64] [--seq 128] [--seconds 1500]
    python benchmarks/step_device.py --device cpu --shape small --batch 2 --seq 32     # shows that it runs

Needs torch and PyYAML alone. Without --shape all cases run, those with a target first, until --seconds are over; what
is left then is "not measured". Memory is torch's peak. The peak of a card comes from pipeline/training/speed.py, or
--peak TFLOPS. "of peak" counts all pairs of positions, as model/flops.py does; "seen" only pairs that may attend.
"""

import argparse
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from model.attention import document_groups  # noqa: E402
from model.compiled import compile_forward  # noqa: E402
from model.config import PAD_ID, SPECIAL_IDS, EncoderConfig, GeneratorConfig, ModelConfig  # noqa: E402
from model.flops import FORWARD_AND_BACKWARD  # noqa: E402
from model.objectives.base import Batch, Objective, build_objective, objective_class  # noqa: E402
from model.stretches import count_stretches, room_for  # noqa: E402
from pipeline.training.speed import listed_peak  # noqa: E402

ROUNDS, MEDIAN = 5, 300
WAYS = ("compiled", "graphs", "eager")


@dataclass(frozen=True)
class Case:
    """What a row of the table is about."""

    shape: str
    seq: int
    batch: int
    text: str
    """whole: a document a row; padded: shorter ones too; packed: several a row, apart."""
    way: str
    target: str = ""


CASES = (
    Case("base", 128, 512, "whole", "compiled", "5,000 seq/s (A100, NVIDIA: 955)"),
    Case("base", 512, 128, "whole", "compiled", "1,150 seq/s (A100, NVIDIA: 171)"),
    Case("small", 128, 512, "whole", "compiled", "16,000 seq/s"),
    Case("small", 128, 512, "whole", "graphs", "16,000 seq/s"),
    Case("base-modern", 1024, 64, "packed", "compiled", "40 % of peak"),
    Case("large", 512, 64, "whole", "compiled", "360 seq/s"),
    Case("base-modern", 8192, 8, "packed", "compiled", "40 % of peak"),
    Case("base", 128, 512, "whole", "eager"),
    Case("base", 512, 128, "whole", "eager"),
    Case("small", 128, 512, "whole", "eager"),
    Case("base-modern", 1024, 64, "packed", "eager"),
    Case("base-modern", 1024, 64, "padded", "eager"),
    Case("base", 512, 128, "padded", "eager"),
    Case("base", 128, 128, "whole", "compiled"),
    Case("small", 128, 128, "whole", "graphs"),
    Case("small", 128, 128, "whole", "compiled"),
    Case("base", 512, 128, "padded", "compiled"),
    Case("base-modern", 1024, 64, "padded", "compiled"),
    Case("base-modern", 8192, 8, "packed", "eager"),
    Case("large", 512, 64, "whole", "eager"),
)


def build(shape: str) -> tuple[Objective, int]:
    """The objective of a preset of configs/, and its vocabulary's size."""
    config = yaml.safe_load((ROOT / "configs" / f"{shape}.yaml").read_text(encoding="utf-8"))
    sizes = dict(config["model"])
    model = ModelConfig(**sizes | {"generator": GeneratorConfig(**sizes["generator"])})
    settings = dict(config["objective"])
    name, vocabulary = settings.pop("name"), config["tokenizer"]["vocab_size"]
    return build_objective(name, model, objective_class(name).Config(**settings), vocabulary, seed=0), vocabulary


def rows_of_text(case: Case, vocabulary: int, seed: int) -> Batch:
    """Random pieces; documents of log-normal lengths, MEDIAN tokens in the median, where the case has any. On the
    host, with its stretches counted.
    """
    generator = torch.Generator().manual_seed(seed)
    size = (case.batch, case.seq)
    ids = torch.randint(len(SPECIAL_IDS), vocabulary, size, generator=generator)
    spread = torch.randn(case.batch, 1 + 8 * case.seq // MEDIAN, generator=generator)
    lengths = (MEDIAN * (0.8 * spread).exp()).long().clamp(min=8)
    documents, place = None, torch.arange(case.seq)
    if case.text == "padded":
        ids = ids.masked_fill(place >= lengths[:, :1], PAD_ID)
    if case.text == "packed":
        documents = (place[None, :, None] >= lengths.cumsum(1)[:, None]).sum(-1)
    numbers = document_groups(ids, documents).numbers
    return Batch(ids, torch.arange(case.batch) + seed * case.batch, documents, None, room_for(count_stretches(numbers)))


def seen_pairs(batch: Batch, window: int | None) -> int:
    """Pairs of positions of a batch on the host that may attend to each other; padding's do not count."""
    numbers = document_groups(batch.ids, batch.documents).numbers
    found = 0
    for row in numbers:
        sizes = row[row >= 0].unique_consecutive(return_counts=True)[1]
        if window is None:
            found += int(sizes.square().sum())
        else:
            inner = sizes.clamp(max=window + 1)
            found += int((sizes * (2 * inner - 1) - inner * (inner - 1)).sum())
    return found


def seen_flops(objective: Objective, batch: Batch) -> float:
    """objective.flops without the products of queries and keys that may not attend to each other."""
    rows, seq = batch.ids.shape
    spared = 0.0
    for network in objective.networks().values():
        config = network.config
        assert isinstance(config, EncoderConfig)
        for layer in range(config.layers):
            near = config.body == "modernbert" and not config.is_global(layer)
            pairs = seen_pairs(batch, config.local_window // 2 if near else None)
            spared += 4.0 * config.hidden_size * (rows * seq**2 - pairs)
    return objective.flops(rows, seq) - FORWARD_AND_BACKWARD * spared


def steps_of(objective: Objective, way: str, batches: list[Batch], device: torch.device) -> Iterator[Tensor]:
    """Updates, as the trainer makes them but for DeepSpeed; each yields its loss, which nobody has waited for."""
    objective.to(device).compute_dtype = torch.bfloat16
    if way != "eager":
        compile_forward(objective, graphs=way == "graphs")
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-5, eps=1e-6, fused=True)
    number = 0
    while True:
        batch = batches[number % len(batches)]
        batch = (batch.pinned() if device.type == "cuda" else batch).to(device)
        loss, _ = objective(batch, objective.counts(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        number += 1
        yield loss.detach()


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(case: Case, device: torch.device, peak: float | None) -> str:
    """A row of the table."""
    objective, vocabulary = build(case.shape)
    batches = [rows_of_text(case, vocabulary, seed) for seed in range(3)]
    rooms = max(batch.room or 0 for batch in batches)  # one shape for all: nothing is compiled within the measurement
    batches = [batch if batch.room == case.batch else replace(batch, room=rooms) for batch in batches]
    tokens = statistics.mean(int((batch.ids != PAD_ID).sum()) for batch in batches)
    every = objective.flops(case.batch, case.seq)
    seen = statistics.mean(seen_flops(objective, batch) for batch in batches)
    steps = steps_of(objective, case.way, batches, device)
    began = time.perf_counter()
    for _ in range(4 if device.type == "cuda" else 1):
        next(steps)
    wait(device)
    start = time.perf_counter() - began
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(ROUNDS):
        began, count = time.perf_counter(), 10 if device.type == "cuda" else 1
        for _ in range(count):
            loss = next(steps)
        wait(device)
        seconds.append((time.perf_counter() - began) / count)
    if not math.isfinite(float(loss)):
        raise SystemExit(f"{case}: the loss is {float(loss)}")
    took = statistics.median(seconds)
    memory = f"{torch.cuda.max_memory_allocated(device) / 2**20:,.0f}" if device.type == "cuda" else ""
    shares = [f"{flops / took / peak:.1%}" if peak else "" for flops in (every, seen)]
    figures = [f"{took * 1e3:.1f}", f"{case.batch / took:,.0f}", f"{tokens / took:,.0f}", *shares, memory]
    return row(case, [*figures, f"{start:.0f}"])


def row(case: Case, figures: list[str]) -> str:
    """As Markdown."""
    what = [case.shape, f"{case.batch} x {case.seq}", case.text, case.way, *figures, case.target]
    return "| " + " | ".join(what) + " |"


def attempt(work: Callable[[], str], case: Case) -> str:
    """The row, or why there is none."""
    try:
        return work()
    except torch.OutOfMemoryError:
        return row(case, ["out of memory", *[""] * 6])
    finally:
        gc.collect()
        torch.compiler.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def table(cases: list[Case], device: torch.device, seconds: float, peak: float | None) -> None:
    """Prints a row a case, as they come."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    peak = peak or (listed_peak(name, "bf16") if device.type == "cuda" else None)
    told = f"{peak / 1e12:,.0f} TFLOP/s" if peak else "not known"
    print(f"\n{name}, torch {torch.__version__}, bf16, dense peak {told}; medians of {ROUNDS}\n")
    columns = ["shape", "rows", "text", "way", "ms", "seq/s", "tokens/s", "of peak", "seen", "peak MiB", "start s"]
    print("| " + " | ".join([*columns, "target"]) + " |\n|" + "---|" * (len(columns) + 1), flush=True)
    began = time.perf_counter()
    for case in cases:
        if time.perf_counter() - began > seconds:
            print(row(case, ["not measured", *[""] * 6]), flush=True)
        else:
            print(attempt(lambda case=case: measure(case, device, peak), case), flush=True)  # type: ignore[misc]


def main() -> None:
    """Reads the command line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    arguments.add_argument("--shape", help="a preset of configs/; by default all cases of the table")
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--seq", type=int, default=128)
    arguments.add_argument("--text", choices=("whole", "padded", "packed"), default="whole")
    arguments.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    arguments.add_argument("--seconds", type=float, default=1500)
    arguments.add_argument("--peak", type=float, metavar="TFLOPS", help="dense, bf16")
    chosen = arguments.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU is found by torch; --device cpu shows that the script runs")
    cases = [case for case in CASES if case.way in chosen.ways]
    if chosen.shape:
        cases = [Case(chosen.shape, chosen.seq, chosen.batch, chosen.text, way) for way in chosen.ways]
    table(cases, torch.device(chosen.device), chosen.seconds, chosen.peak and chosen.peak * 1e12)


if __name__ == "__main__":
    main()
