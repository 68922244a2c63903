"""Efficiency on up to 1,024 cards, as pipeline/plan.py reckons it: the table and the curves of docs/scale.md. No run.

python benchmarks/scale.py [--config FILE] [--card H100] [--efficiency 0.4] [--jitter 0.02] [key=value ...]
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.report import table  # noqa: E402
from pipeline.base.config import load_config  # noqa: E402
from pipeline.planning.cards import card_of  # noqa: E402
from pipeline.planning.estimate import CardUse, estimate  # noqa: E402
from pipeline.planning.machine import Link  # noqa: E402
from pipeline.planning.many import Cluster  # noqa: E402

HOSTS = (1, 2, 8, 32, 128)
NETWORKS = {"100 Gbit/s": 12.5e9, "400 Gbit/s": 50e9, "3,200 Gbit/s": 400e9}
CHOICES = ((1, False), (2, True), (3, True))
"""ZeRO stage, overlap_comm."""
SEQUENCES = 128
"""Of a card and step."""


def efficiencies(chosen: argparse.Namespace, bandwidth: float, stage: int, overlap: bool) -> list[float]:
    """By the number of hosts."""
    card = card_of(chosen.card)
    found = []
    for hosts in HOSTS:
        cluster = Cluster(hosts, 8, Link(5e-6, card.link), Link(20e-6, bandwidth), chosen.jitter)
        sizes = [f"train.batch_size={SEQUENCES * cluster.world}", f"train.micro_batch_size={SEQUENCES}"]
        zero = {"stage": stage, "overlap_comm": overlap}
        changes = [*sizes, *(f"deepspeed.zero_optimization.{key}={value}" for key, value in zero.items())]
        config = load_config(chosen.config, [*changes, *chosen.changes])
        on = CardUse(card, chosen.efficiency)
        found.append(estimate(config, config.tokenizer.vocab_size, on, cluster).step.efficiency)
    return found


def main() -> None:
    """Prints the table, and the curves as a chart that Markdown pages draw (Mermaid)."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--config", type=Path, default=ROOT / "configs" / "base.yaml")
    arguments.add_argument("--card", default="H100")
    arguments.add_argument("--efficiency", type=float, default=0.4)
    arguments.add_argument("--jitter", type=float, default=0.02)
    arguments.add_argument("changes", nargs="*", metavar="key=value")
    chosen = arguments.parse_intermixed_args()
    lines, curves = [], []
    for network, bandwidth in NETWORKS.items():
        for stage, overlap in CHOICES:
            values = [f"{value:.2f}" for value in efficiencies(chosen, bandwidth, stage, overlap)]
            lines.append([network, str(stage), "yes" if overlap else "no", *values])
            curves.append(f'    line "{network}, ZeRO {stage}" [{", ".join(values)}]')
    cards = [f"{8 * hosts:,}" for hosts in HOSTS]
    print(table(["network a host", "ZeRO stage", "`overlap_comm`", *cards], lines))
    axis = ", ".join(f'"{name}"' for name in cards)
    head = ["```mermaid", "xychart-beta", f'    x-axis "cards" [{axis}]', '    y-axis "efficiency" 0 --> 1']
    print(*head, *curves, "```", sep="\n")


if __name__ == "__main__":
    main()
