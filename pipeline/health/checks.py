"""Sums over a micro-batch, recomputed from what the networks were given and what they gave; the objective is not asked.

Promise: they add up over micro-batches and ranks. Price: one more softmax over the vocabulary at the masked positions,
512 positions at a time; only at steps that are looked at.

generator/ positions, expected_positions, special (positions at special tokens or padding), elsewhere (changed but not
at a position), twice, same_rows, rows, shown ([MASK] at a position), kept, nats, right, chance (probability of the
original), chance_variance, groups (tokens whose document differs), bias (a vector: gradient of the decoder's bias).
discriminator/ tokens, fakes, elsewhere, masks, nats, inverted (nats with the labels exchanged), slope (sum of
probability less label), spread (sum of its absolute value), sampled_right, surprise (log-probability of the samples
over what is expected of them), surprise_variance, groups. Both: judged, wrong_labels, size, wanted_size (of the
gradient at the output, where there is one).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from model.attention import document_groups
from model.config import CLS_ID, MASK_ID, PAD_ID, SEP_ID
from model.objectives.base import Batch

CHUNK = 512
Sums = dict[str, Tensor]


@dataclass(frozen=True)
class Call:
    """What a network was called with, and what it gave."""

    ids: Tensor
    groups: Tensor
    output: Tensor
    positions: Tensor | None = None


@torch.no_grad()
def check_sums(batch: Batch, fraction: float, generator: Call, discriminator: Call | None) -> Sums:
    """All of them, float64."""
    if generator.positions is None:
        raise ValueError("the generator is called with positions")
    groups = document_groups(batch.ids, batch.documents).numbers
    chosen, at = generator.positions >= 0, generator.positions.clamp(min=0)
    found = {f"generator/{key}": value for key, value in _masks(batch.ids, fraction, generator, at, chosen).items()}
    found["generator/groups"] = (generator.groups != groups).sum()
    sampled = None
    if discriminator is not None:
        sampled = discriminator.ids.gather(1, at)
        more = _detection(batch.ids, discriminator, at, chosen)
        more["groups"] = (discriminator.groups != groups).sum()
        found |= {f"discriminator/{key}": value for key, value in more.items()}
    found |= _guesses(batch.ids.gather(1, at), sampled, generator.output, chosen)
    return {key: value.detach().double() for key, value in found.items()}


@torch.no_grad()
def gradient_sums(name: str, batch: Batch, call: Call, gradient: Tensor) -> Sums:
    """What a network's output gets back: tokens (or positions) judged, those whose label was another one, and the sum
    of the gradient's absolute value beside what the labels make it.

    gradient: of the sum of the losses, nats, of all tokens: divided by what the loss was divided by.
    """
    ids = batch.ids
    if name == "discriminator":
        there = ids != PAD_ID
        label, chance = (call.ids != ids).float(), call.output.float().sigmoid()
        # The gradient is the chance less the label: its sign tells the label, also where its size is wrong.
        wrong = torch.where(gradient < 0, label == 0, (gradient > 0) & (label == 1)) & there
        size, wanted = (gradient * there).abs().sum(), ((chance - label) * there).abs().sum()
    else:
        if call.positions is None:
            raise ValueError("the generator is called with positions")
        there = call.positions >= 0
        targets = ids.gather(1, call.positions.clamp(min=0))
        wrong = (gradient.argmin(-1) != targets) & there  # negative at the target alone
        size = (gradient.gather(-1, targets[..., None]).squeeze(-1) * there).abs().sum()
        mass = torch.cat([logits.float().logsumexp(-1) for logits in call.output.flatten(0, 1).split(CHUNK)])
        logit = call.output.gather(-1, targets[..., None]).squeeze(-1).float()
        wanted = ((1 - (logit - mass.view_as(targets)).exp()) * there).sum()
    found = {"judged": there.sum(), "wrong_labels": wrong.sum(), "size": size, "wanted_size": wanted}
    return {f"{name}/{key}": value.double() for key, value in found.items()}


def _forbidden(ids: Tensor) -> Tensor:
    """(batch, seq) bool: where nothing may be masked."""
    found = (ids == PAD_ID) | (ids == CLS_ID) | (ids == SEP_ID) | (ids == MASK_ID)
    found[:, 0] = True
    return found


def _masks(ids: Tensor, fraction: float, call: Call, at: Tensor, chosen: Tensor) -> Sums:
    length, forbidden = ids.shape[1], _forbidden(ids)
    most = max(1, int((fraction + 0.005) * length))
    wanted = ((ids != PAD_ID).sum(1).double() * fraction).round().clamp(min=1, max=most)
    there, changed = _marked(ids, at, chosen), call.ids != ids
    shown = call.ids.gather(1, at)
    sorted_at = at.masked_fill(~chosen, -1).sort(1).values
    alike = (at[1:] == at[:-1]).all(1) & (chosen[1:].sum(1) >= 3)
    return {
        "positions": chosen.sum(),
        "expected_positions": torch.minimum(wanted, (~forbidden).sum(1)).sum(),
        "special": (forbidden & (changed | there)).sum(),
        "elsewhere": (changed & ~there).sum(),
        "twice": ((sorted_at[:, 1:] == sorted_at[:, :-1]) & (sorted_at[:, 1:] >= 0)).sum(),
        "same_rows": alike.sum(),
        "rows": (chosen[1:].sum(1) >= 3).sum(),
        "shown": ((shown == MASK_ID) & chosen).sum(),
        "kept": ((shown == ids.gather(1, at)) & chosen).sum(),
    }


def _marked(ids: Tensor, at: Tensor, chosen: Tensor) -> Tensor:
    """(batch, seq) bool: the positions."""
    return torch.zeros_like(ids).scatter_add(1, at, chosen.long()) > 0


def _detection(ids: Tensor, call: Call, at: Tensor, chosen: Tensor) -> Sums:
    tokens, changed, logits = ids != PAD_ID, call.ids != ids, call.output.float()
    label = (changed & tokens).float()
    rest = (logits.sigmoid() - label) * tokens
    nats = {
        name: (binary_cross_entropy_with_logits(logits, target, reduction="none") * tokens).sum(dtype=torch.float64)
        for name, target in (("nats", label), ("inverted", 1 - label))
    }
    return nats | {
        "tokens": tokens.sum(),
        "fakes": label.sum(dtype=torch.float64),
        "elsewhere": (changed & ~_marked(ids, at, chosen)).sum(),
        "masks": ((call.ids == MASK_ID) & (ids != MASK_ID)).sum(),
        "slope": rest.sum(dtype=torch.float64),
        "spread": rest.abs().sum(dtype=torch.float64),
        "sampled_right": ((call.ids.gather(1, at) == ids.gather(1, at)) & chosen).sum(),
    }


def _guesses(targets: Tensor, sampled: Tensor | None, logits: Tensor, chosen: Tensor) -> Sums:
    """What the generator's distributions say of the originals and of the samples."""
    names = ["generator/nats", "generator/right", "generator/chance", "generator/chance_variance"]
    names += ["discriminator/surprise", "discriminator/surprise_variance"] if sampled is not None else []
    found = {name: torch.zeros((), dtype=torch.float64, device=logits.device) for name in names}
    bias = torch.zeros(logits.shape[-1], dtype=torch.float64, device=logits.device)
    flat = logits.flatten(0, 1)
    picked = torch.nonzero(chosen.flatten()).flatten()
    for places in picked.split(CHUNK):
        logs = flat[places].float().log_softmax(-1)
        chances, wanted = logs.exp(), targets.flatten()[places, None]
        right = chances.gather(-1, wanted).squeeze(-1)
        found["generator/nats"] -= logs.gather(-1, wanted).sum(dtype=torch.float64)
        found["generator/right"] += (logs.argmax(-1, keepdim=True) == wanted).sum()
        found["generator/chance"] += right.sum(dtype=torch.float64)
        found["generator/chance_variance"] += (right * (1 - right)).sum(dtype=torch.float64)
        bias += chances.sum(0, dtype=torch.float64)
        bias.index_add_(0, wanted.squeeze(-1), -torch.ones(len(places), dtype=torch.float64, device=bias.device))
        if sampled is not None:
            weighed = chances * logs.clamp(min=-1e4)  # where the probability is 0
            mean = weighed.sum(-1)
            got = logs.gather(-1, sampled.flatten()[places, None]).squeeze(-1)
            found["discriminator/surprise"] += (got - mean).sum(dtype=torch.float64)
            spread = (weighed * logs.clamp(min=-1e4)).sum(-1) - mean**2
            found["discriminator/surprise_variance"] += spread.clamp(min=0).sum(dtype=torch.float64)
    return found | {"generator/bias": bias}
