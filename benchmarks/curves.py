"""The forms for a CPU and the plain ones trained side by side: same seed, same text, a small model, curves compared.

    python benchmarks/curves.py [--steps 500] [--threads 1] [--bodies electra modernbert] [--precisions fp32 bf16]
                                [--dropout 0.0 0.1]

Three runs a row: plain forms; the forms for a CPU; plain forms from weights moved by a part in ten million, which
shows how far rounding alone carries two curves apart. Losses are smoothed over 25 steps. Without dropout rows are
packed documents, each apart. With dropout they are single documents and the plain form takes its masks from the CPU
form's generator, in the same order, so that both drop the same elements. Small, because the plain form in bf16 is slow
where the CPU has no such products.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.report import table  # noqa: E402
from model.config import SPECIAL_IDS  # noqa: E402
from model.dropout import keep_mask  # noqa: E402
from model.objectives.base import Batch, build_objective  # noqa: E402
from model.paths import plain_forms  # noqa: E402
from pipeline.base.config import load_config  # noqa: E402
from pipeline.training.optimizer import build_optimizer  # noqa: E402

VOCABULARY, ROWS, SEQ, WARMUP, SMOOTH = 512, 16, 32, 50, 25
LEARNING_RATE = 2e-3
SIZES = ("hidden_size=64", "layers=3", "heads=2", "ffn_size=128", "local_window=16", "generator.size=0.5")
WIDTHS = {"electra": "embedding_size=32", "modernbert": "embedding_size=null"}
VARIANTS = ("plain", "cpu", "nudged")


def batches(steps: int, packed: bool) -> Iterator[Batch]:
    """Text that can be learnt: after each token one of four follow in 85 % of the cases, any other in the rest.

    packed: documents of 8 to 24 tokens side by side in a row; otherwise one a row.
    """
    generator = torch.Generator().manual_seed(1)
    first = len(SPECIAL_IDS)
    followers = torch.randint(first, VOCABULARY, (VOCABULARY, 4), generator=generator)
    for step in range(steps):
        ids = torch.randint(first, VOCABULARY, (ROWS, SEQ), generator=generator)
        chosen = torch.randint(4, (ROWS, SEQ), generator=generator)
        follows = torch.rand(ROWS, SEQ, generator=generator) < 0.85
        for place in range(1, SEQ):
            after = followers[ids[:, place - 1], chosen[:, place]]
            ids[:, place] = torch.where(follows[:, place], after, ids[:, place])
        documents = None
        if packed:
            starts = torch.zeros(ROWS, SEQ, dtype=torch.long)
            for row in starts:
                place = 0
                while (place := place + int(torch.randint(8, 25, (), generator=generator))) < SEQ:
                    row[place] = 1
            documents = starts.cumsum(1)
        yield Batch(ids, torch.arange(ROWS) + step * ROWS, documents)


def same_masks(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """torch's dropout with the mask that the form for a CPU would draw here."""
    if not training or p == 0:
        return x
    return x * keep_mask(x.numel(), p).view(x.shape).ne(0) / (1 - p)


@contextmanager
def forms(variant: str) -> Iterator[None]:
    """Within, what the variant computes with."""
    with ExitStack() as stack:
        if variant != "cpu":
            stack.enter_context(plain_forms())
            for place in ("torch.nn.functional.dropout", "model.attention.dropout"):
                stack.enter_context(patch(place, same_masks))
        yield


def train(variant: str, body: str, precision: str, p: float, steps: int) -> dict[str, Tensor]:
    """Each step's losses, (steps,) float64 each: the generator's and the discriminator's."""
    rates = (f"model.dropout={p}", f"model.attention_dropout={p}")
    sizes = (f"model.{size}" for size in (f"body={body}", WIDTHS[body], *SIZES))
    changes = [*sizes, *rates, "data.segments=none", f"optimizer.lr={LEARNING_RATE}"]
    config = load_config(ROOT / "configs" / "small.yaml", changes)
    objective = build_objective("electra", config.model, config.objective, VOCABULARY, seed=0)
    objective.compute_dtype = torch.bfloat16 if precision == "bf16" else None
    if variant == "nudged":
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.mul_(1 + 1e-7)
    optimizer = build_optimizer(config.optimizer, objective.named_parameters())
    torch.manual_seed(0)
    found: dict[str, list[float]] = {"generator": [], "discriminator": []}
    with forms(variant):
        for step, batch in enumerate(batches(steps, packed=p == 0)):
            loss, sums = objective(batch, objective.counts(batch))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARMUP)
            optimizer.step()
            optimizer.zero_grad()
            metrics = objective.metrics(sums, training=True)
            for name, values in found.items():
                values.append(metrics[f"{name}/loss"])
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}


def apart(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Largest and mean difference of two curves (steps,), each smoothed; NaN counts as infinitely far apart."""
    window = min(SMOOTH, len(one))
    smooth = ((one - other).unfold(0, window, 1)).mean(-1).abs().nan_to_num(math.inf)
    return float(smooth.max()), float(smooth.mean())


def rows_of(body: str, precision: str, p: float, steps: int) -> Iterator[list[str]]:
    """The table's lines for one setting: one for each network."""
    curves = {variant: train(variant, body, precision, p, steps) for variant in VARIANTS}
    for name in ("generator", "discriminator"):
        plain, cpu, nudged = (curves[variant][name] for variant in VARIANTS)
        figures = (*apart(plain, cpu), *apart(plain, nudged))
        ends = (plain[:SMOOTH].mean(), plain[-SMOOTH:].mean(), cpu[-SMOOTH:].mean())
        numbers = [*(f"{float(end):.4f}" for end in ends), *(f"{figure:.1e}" for figure in figures)]
        yield [body, precision, str(p), name, *numbers]


def main() -> None:
    """Reads the command line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=500)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--bodies", nargs="+", choices=tuple(WIDTHS), default=list(WIDTHS))
    arguments.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    arguments.add_argument("--dropout", nargs="+", type=float, default=[0.0, 0.1], metavar="P")
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    head = ["body", "precision", "dropout", "loss of", "at first", "plain at the end", "CPU form at the end"]
    head += ["apart, most", "mean", "nudged apart, most", "mean"]
    lines: list[list[Any]] = []
    for body in chosen.bodies:
        for precision in chosen.precisions:
            for p in chosen.dropout:
                lines += rows_of(body, precision, p, chosen.steps)
                print(*lines[-2:], sep="\n", file=sys.stderr, flush=True)
    print(f"{chosen.steps} steps of {ROWS} x {SEQ} tokens, losses smoothed over {SMOOTH}.\n\n{table(head, lines)}")


if __name__ == "__main__":
    main()
