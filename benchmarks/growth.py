"""How an update's time grows: with the sequence length, the width, the depth and the vocabulary.

    python benchmarks/growth.py [--tokens 2048] [--lengths 128 ...] [--widths 128 ...] [--depths 2 ...]
                                [--vocabularies 8000 ...] [--rounds 3] [--precision fp32] [--body electra modernbert]

An update has `--tokens` tokens in all, or one row, where that is longer. "packed": documents of about 100 tokens side
by side in a row, each apart: the time a token should not grow with the row. "whole": one document a row, over all of
which attention goes (modernbert's local layers aside), for lengths up to 2,048. Processor time of one thread; all sizes
of a table take turns; medians and ranges of ratios to the table's first size.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks import step_variants  # noqa: E402
from benchmarks.report import spread, table  # noqa: E402
from pipeline.base.config import load_config  # noqa: E402

DOCUMENT = 100
WHOLE = 2048
"""Longest document: of 8,192 tokens the probabilities alone would take gigabytes."""
BODIES = {"electra": "model.embedding_size=64", "modernbert": "model.embedding_size=null"}
BASE = {"hidden_size": 128, "layers": 4, "heads": 4, "ffn_size": 512}


def make(body: str, seq: int, documents: int | None, chosen: argparse.Namespace, **sizes: int) -> Callable[[], float]:
    """Seconds a token of an update of this size. sizes: of BASE, and vocabulary."""
    vocabulary = sizes.pop("vocabulary", 8000)
    shape = BASE | sizes
    changes = [f"model.{name}={value}" for name, value in shape.items()]
    changes += [f"model.body={body}", BODIES[body], f"model.max_positions={max(seq, 128)}", "data.segments=none"]
    changes += [f"data.sequence_length={seq}", "train.micro_batch_size=null"]
    config = load_config(ROOT / "configs" / "small.yaml", changes)
    given = step_variants.text(max(1, chosen.tokens // seq), seq, documents, vocabulary)
    batch = given.packed(seq)
    step = step_variants.ours(config, given, batch, chosen.precision, vocabulary)
    tokens = batch.ids.numel()

    def measured() -> float:
        began = time.process_time()
        step()
        return (time.process_time() - began) / tokens

    return measured


def grown(name: str, made: dict[Any, Callable[[], float]], rounds: int) -> list[list[str]]:
    """Lines of the table: each size's microseconds a token, and its ratio to the first size's, round by round."""
    found: dict[Any, list[float]] = {size: [] for size in made}
    for number in range(rounds + 1):
        for size, measured in made.items():
            took = measured()
            if number > 0:
                found[size].append(took)
    first = next(iter(found.values()), [])
    lines = []
    for size, values in found.items():
        ratios = [mine / other for mine, other in zip(values, first, strict=True)]
        lines.append([name, str(size), spread([value * 1e6 for value in values], 0), spread(ratios)])
    return lines


def main() -> None:
    """Reads the command line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tokens", type=int, default=2048)
    arguments.add_argument("--lengths", type=int, nargs="*", default=[128, 512, 2048, 8192])
    arguments.add_argument("--widths", type=int, nargs="*", default=[128, 256, 512])
    arguments.add_argument("--depths", type=int, nargs="*", default=[2, 4, 8])
    arguments.add_argument("--vocabularies", type=int, nargs="*", default=[8000, 16000, 32000])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments.add_argument("--body", choices=tuple(BODIES), nargs="+", default=list(BODIES))
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = []
    for body in chosen.body:
        # Each table's models are made, timed and dropped before the next one's.
        for kind, documents in (("packed", DOCUMENT), ("whole", None)):
            lengths = [seq for seq in chosen.lengths if documents or seq <= WHOLE]
            made = {seq: make(body, seq, documents, chosen) for seq in lengths}
            lines += grown(f"{body}: length, {kind}", made, chosen.rounds)
        wide = {n: make(body, 128, DOCUMENT, chosen, hidden_size=n, ffn_size=4 * n) for n in chosen.widths}
        lines += grown(f"{body}: width", wide, chosen.rounds)
        deep = {n: make(body, 128, DOCUMENT, chosen, layers=n) for n in chosen.depths}
        lines += grown(f"{body}: layers", deep, chosen.rounds)
        pieces = {n: make(body, 128, DOCUMENT, chosen, vocabulary=n) for n in chosen.vocabularies}
        lines += grown(f"{body}: vocabulary", pieces, chosen.rounds)
    print(f"{chosen.precision}, one thread; {BASE}, 8,000 pieces and rows of 128 where not varied.\n")
    print(table(["what grows", "size", "µs a token", "x the first"], lines))


if __name__ == "__main__":
    main()
