"""A training step against the usual way of writing it with `transformers`, in interleaved rounds of one run.

    python benchmarks/step.py [--shape small] [--batch 16] [--seq 128] [--rounds 5] [--threads 2] [--precision bf16]

The baseline is ElectraForMaskedLM and ElectraForPreTraining trained jointly with tied tables and fused AdamW: logits at
all positions, as those classes have it, and samples drawn at the masked ones. Same batch, dropout and sizes.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from model.config import SPECIAL_IDS
from model.hf import to_hf
from model.masking import mask_tokens, replace_tokens
from model.objectives.base import Batch, build_objective
from pipeline.base.config import RunConfig, load_config
from pipeline.training.optimizer import build_optimizer

PRESETS = Path(__file__).resolve().parents[1] / "configs"
VOCABULARY = 30_522
WEIGHT = 50.0


def ours(config: RunConfig, batch: Batch, precision: str) -> Callable[[], None]:
    """One update of the objective."""
    objective = build_objective("electra", config.model, config.objective, VOCABULARY, seed=0)
    objective.compute_dtype = torch.bfloat16 if precision == "bf16" else None
    optimizer = build_optimizer(config.optimizer, objective.named_parameters())
    for group in optimizer.param_groups:
        group["lr"] = config.optimizer.lr
    totals = objective.counts(batch)

    def step() -> None:
        loss, _ = objective(batch, totals)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def usual(config: RunConfig, batch: Batch, precision: str) -> Callable[[], None]:
    """One update of the library's classes."""
    networks = build_objective("electra", config.model, config.objective, VOCABULARY, seed=0).networks()
    generator = ElectraForMaskedLM(ElectraConfig(**to_hf(networks["generator"])[0]))
    discriminator = ElectraForPreTraining(ElectraConfig(**to_hf(networks["discriminator"])[0]))
    generator.electra.embeddings = discriminator.electra.embeddings
    generator.generator_lm_head.weight = discriminator.electra.embeddings.word_embeddings.weight
    parameters = list(dict.fromkeys([*generator.parameters(), *discriminator.parameters()]))
    optimizer = torch.optim.AdamW(parameters, lr=5e-4, eps=1e-6, weight_decay=0.01, fused=True)
    masked = mask_tokens(batch.ids, batch.sample, 0, 0.15, 0.85, 0.0, VOCABULARY)

    def step() -> None:
        scope = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
        with scope:
            scores = generator(masked.ids).logits
        at = scores.gather(1, masked.positions.clamp(min=0)[..., None].expand(-1, -1, VOCABULARY)).float()
        sampled = torch.distributions.Categorical(logits=at.detach()).sample()
        corrupted = replace_tokens(batch.ids, masked.positions, sampled)
        with scope:
            logits = discriminator(corrupted).logits
        labels: Tensor = (corrupted != batch.ids).float()
        loss = cross_entropy(at.flatten(0, 1), masked.targets.flatten())
        loss = loss + WEIGHT * binary_cross_entropy_with_logits(logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shape", default="small", help="a preset of configs/ with the electra body")
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--seq", type=int, default=128)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    config = load_config(PRESETS / f"{chosen.shape}.yaml")
    ids = torch.randint(len(SPECIAL_IDS), VOCABULARY, (chosen.batch, chosen.seq))
    batch = Batch(ids, torch.arange(chosen.batch))
    steps = {
        "usual (transformers)": usual(config, batch, chosen.precision),
        "ours": ours(config, batch, chosen.precision),
    }
    seconds: dict[str, list[float]] = {label: [] for label in steps}
    for number in range(chosen.rounds + 1):
        for label, step in steps.items():
            began = time.perf_counter()
            step()
            if number > 0:
                seconds[label].append(time.perf_counter() - began)
    tokens = chosen.batch * chosen.seq
    print(f"\n{chosen.shape}, {chosen.batch} x {chosen.seq}, {chosen.precision}, {chosen.threads} thread(s), medians\n")
    print("| step | ms | tokens/s | x usual |\n|---|---|---|---|")
    reference = statistics.median(seconds["usual (transformers)"])
    for label, values in seconds.items():
        median = statistics.median(values)
        print(f"| {label} | {median * 1000:.0f} | {tokens / median:,.0f} | {reference / median:.2f} |")


if __name__ == "__main__":
    main()
