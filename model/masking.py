"""Masks: which positions are hidden, and what the masked language model sees there.

Promise: without replacement; never [CLS], [SEP], [MASK], [PAD] or position 0; decided by (seed, global sample index,
position) alone, so the same on any rank and in any micro-batch, and new for every sample. No synchronisation with the
host.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import CLS_ID, MASK_ID, PAD_ID, SEP_ID, SPECIAL_IDS
from model.counter import Stream, random_bits, random_uniforms


@dataclass(frozen=True)
class Masked:
    """A batch made ready for a masked language model."""

    ids: Tensor
    """(batch, seq): the input, with [MASK] and other substitutes in place."""
    positions: Tensor
    """(batch, k): where, -1 where a row has fewer than k."""
    targets: Tensor
    """(batch, k): the original ids there (anything where the position is -1)."""

    @property
    def chosen(self) -> Tensor:
        """(batch, k) bool: the entries that are positions."""
        return self.positions >= 0


def mask_tokens(
    ids: Tensor, sample: Tensor, seed: int, fraction: float, mask_share: float, random_share: float, vocab_size: int
) -> Masked:
    """Hide a fraction of the tokens: [MASK] in mask_share of the cases, a random token in random_share, else kept as
    they are.

    ids (batch, seq); sample (batch,). ELECTRA: 85 % [MASK], 15 % kept (released code). BERT: 80 % [MASK], 10 %
    random, 10 % kept (Devlin et al. 2019, section 3.1). Random tokens are never special ids: BERT's code draws them
    from all of the vocabulary.
    """
    positions = draw_positions(ids, sample, seed, fraction)
    at = positions.clamp(min=0)
    targets = ids.gather(1, at)
    choice = random_uniforms(seed, Stream.CORRUPTION, sample, at)
    substitutes = torch.where(choice < mask_share, MASK_ID, targets)
    if random_share > 0:
        ordinary = vocab_size - len(SPECIAL_IDS)
        random = random_bits(seed, Stream.RANDOM_TOKEN, sample, at) % ordinary + len(SPECIAL_IDS)
        substitutes = torch.where((choice >= mask_share) & (choice < mask_share + random_share), random, substitutes)
    return Masked(replace_tokens(ids, positions, substitutes), positions, targets)


def draw_positions(ids: Tensor, sample: Tensor, seed: int, fraction: float) -> Tensor:
    """Positions to mask, without replacement; never [CLS], [SEP], [MASK], [PAD] or position 0.

    ids (batch, seq); sample (batch,): global index. Returns (batch, k), -1 where a row has fewer. ELECTRA (Clark et
    al. 2020), section 2; the released code draws with replacement, so it masks somewhat fewer than it counts.
    """
    seq = ids.shape[1]
    everywhere = torch.arange(seq, device=ids.device)[None]
    keys = random_bits(seed, Stream.POSITION, sample, everywhere)
    keys = keys.masked_fill(~_candidates(ids), torch.iinfo(torch.int64).max)
    positions = keys.topk(most_masked(seq, fraction), largest=False, sorted=True).indices
    rank = torch.arange(positions.shape[1], device=ids.device)[None]
    return positions.masked_fill(rank >= count_masked(ids, fraction)[:, None], -1)


def count_masked(ids: Tensor, fraction: float) -> Tensor:
    """How many positions of each row are masked, (batch,) int64: max(1, min(N, round(fraction * tokens that are not
    padding))).

    N = int((fraction + 0.005) * seq), as in the released code; never more than a row has candidates.
    """
    tokens = (ids != PAD_ID).sum(1)
    wanted = (tokens.double() * fraction).round().long().clamp(min=1, max=_limit(ids.shape[1], fraction))
    return torch.minimum(wanted, _candidates(ids).sum(1))


def most_masked(seq: int, fraction: float) -> int:
    """The most positions that a row of seq tokens can have masked: the k of every (batch, k) here."""
    return min(_limit(seq, fraction), max(1, round(fraction * seq)))


def replace_tokens(ids: Tensor, positions: Tensor, values: Tensor) -> Tensor:
    """A copy of ids (batch, seq) with values (batch, k) at positions (batch, k); those at -1 are dropped."""
    seq = ids.shape[1]
    with_bin = torch.nn.functional.pad(ids, (0, 1))  # one more column catches what has no position
    return with_bin.scatter(1, positions.masked_fill(positions < 0, seq), values)[:, :seq]


def _limit(seq: int, fraction: float) -> int:
    return max(1, int((fraction + 0.005) * seq))


def _candidates(ids: Tensor) -> Tensor:
    """(batch, seq) bool. Position 0 holds [CLS]; the released code never replaces it whatever it holds."""
    allowed = (ids != PAD_ID) & (ids != CLS_ID) & (ids != SEP_ID) & (ids != MASK_ID)
    allowed[:, 0] = False
    return allowed
