"""What step.py compares: an update of the objective, and the usual way of writing it with `transformers`, on one text.

The usual way is the library's masked language model and its token classifier trained jointly: tied tables, fused
AdamW, scaled_dot_product_attention, logits at all positions as those classes have it, samples drawn at the masked ones
(tests/model/test_parity.py: the two give the same losses).
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from model.config import PAD_ID, SPECIAL_IDS
from model.hf import to_hf
from model.masking import mask_tokens, replace_tokens
from model.objectives.base import Batch, build_objective
from pipeline.base.config import RunConfig
from pipeline.training.memory import keep_freed_memory
from pipeline.training.optimizer import build_optimizer

Step = Callable[[], None]
VOCABULARY = 30_522


@dataclass(frozen=True)
class Text:
    """Documents as random pieces."""

    documents: list[Tensor]
    """(length,) ids each."""

    def packed(self, seq: int) -> Batch:
        """One after another in rows of seq tokens, each apart from its neighbours; the last row may be padded."""
        ids = torch.cat(self.documents)
        numbers = torch.cat([torch.full_like(one, n) for n, one in enumerate(self.documents)])
        rows = math.ceil(len(ids) / seq)
        more = rows * seq - len(ids)
        ids = torch.nn.functional.pad(ids, (0, more), value=PAD_ID).view(rows, seq)
        return Batch(ids, torch.arange(rows), torch.nn.functional.pad(numbers, (0, more), value=-1).view(rows, seq))

    def padded(self) -> Batch:
        """One a row, padded to the longest."""
        ids = torch.nn.utils.rnn.pad_sequence(self.documents, batch_first=True, padding_value=PAD_ID)
        return Batch(ids, torch.arange(len(ids)))


def text(batch: int, seq: int, median: int | None, vocabulary: int = VOCABULARY) -> Text:
    """batch * seq tokens. median: of the documents' lengths, which are log-normal (deviation 0.8) and cut into pieces
    of at most seq tokens; None: all documents are of seq tokens.
    """
    generator = torch.Generator().manual_seed(0)
    left, lengths = batch * seq, list[int]()
    while left:
        drawn = seq if median is None else int(median * math.exp(0.8 * float(torch.randn((), generator=generator))))
        drawn = min(max(drawn, 8), left)
        lengths += [seq] * (drawn // seq) + [drawn % seq] * (drawn % seq > 0)
        left -= drawn
    draw = [torch.randint(len(SPECIAL_IDS), vocabulary, (length,), generator=generator) for length in lengths]
    return Text(draw)


def ours(config: RunConfig, given: Text, batch: Batch, precision: str, vocabulary: int = VOCABULARY) -> Step:
    """One update of the objective, in a process that keeps its memory as a rank does."""
    keep_freed_memory()
    objective = build_objective("electra", config.model, config.objective, vocabulary, seed=0)
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


def usual(config: RunConfig, given: Text, batch: Batch, precision: str) -> Step:
    """One update of the library's classes."""
    import transformers

    networks = build_objective("electra", config.model, config.objective, VOCABULARY, seed=0).networks()
    made = {}
    for name, network in networks.items():
        values, state, kind = to_hf(network)
        made[name] = getattr(transformers, kind)(transformers.AutoConfig.for_model(**values))
        made[name].load_state_dict(state, strict=False)
    generator, discriminator = made["generator"], made["discriminator"]
    del networks
    generator.base_model.embeddings = discriminator.base_model.embeddings
    generator.get_output_embeddings().weight = discriminator.get_input_embeddings().weight
    parameters = list(dict.fromkeys([*generator.parameters(), *discriminator.parameters()]))
    optimizer = torch.optim.AdamW(parameters, lr=config.optimizer.lr, eps=1e-6, weight_decay=0.01, fused=True)
    fraction = config.objective.mask_fraction
    masked = mask_tokens(batch.ids, batch.sample, 0, fraction, 0.85, 0.0, VOCABULARY)
    tokens = batch.ids != PAD_ID
    attended = None if bool(tokens.all()) else tokens.long()
    generator.train(), discriminator.train()

    def step() -> None:
        scope = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
        with scope:
            scores = generator(masked.ids, attention_mask=attended).logits
        at = scores.gather(1, masked.positions.clamp(min=0)[..., None].expand(-1, -1, VOCABULARY)).float()
        sampled = torch.distributions.Categorical(logits=at.detach()).sample()
        corrupted = replace_tokens(batch.ids, masked.positions, sampled)
        with scope:
            logits = discriminator(corrupted, attention_mask=attended).logits.float()
        labels = corrupted != batch.ids
        loss = cross_entropy(at[masked.chosen], masked.targets[masked.chosen])
        if logits.ndim == 3:  # two labels a token
            told = cross_entropy(logits[tokens], labels[tokens].long())
        else:
            told = binary_cross_entropy_with_logits(logits[tokens], labels[tokens].float())
        (loss + config.objective.discriminator_weight * told).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step
