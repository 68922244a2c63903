"""ELECTRA: a small generator fills masked positions, the discriminator tells which tokens it replaced (Clark et al.
2020).

    loss = E[generator's cross-entropy at the masked positions] + discriminator_weight * E[binary cross-entropy at
    every token]

Both networks train together in one backward pass; no gradient flows from the discriminator through the samples.
Promise: masks and samples depend on (seed, global sample index) alone. Price: two networks' forward passes a step.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from model.attention import document_groups
from model.config import PAD_ID, ModelConfig
from model.flops import FORWARD_AND_BACKWARD, detection_head_flops, encoder_flops, language_head_flops
from model.guesses import read_guesses
from model.layers import initialize
from model.masking import count_masked, mask_tokens, most_masked, replace_tokens
from model.measures import (
    Sums,
    detection_metrics,
    detection_sums,
    frequency_sums,
    language_metrics,
    language_sums,
    ratio,
    total,
    unigram_sums,
)
from model.networks import build_pair
from model.objectives.base import Batch, Objective
from model.sampling import draw_uniforms


@dataclass(frozen=True)
class Round:
    """One game of generator against discriminator over a micro-batch."""

    guesses: Tensor
    """(batch, k, vocab): the generator's scores at the masked positions."""
    targets: Tensor
    """(batch, k): the original ids there."""
    chosen: Tensor
    """(batch, k) bool: entries that are positions, where a row has fewer than k."""
    sampled: Tensor
    """(batch, k): the ids drawn."""
    corrupted: Tensor
    """(batch, seq): what the discriminator reads: the original with the samples in place, and no [MASK]."""
    logits: Tensor
    """(batch, seq) float32: the discriminator's."""
    fake: Tensor
    """(batch, seq) bool: where the sample is not the original token."""
    tokens: Tensor
    """(batch, seq) bool: everything but padding, [CLS] and [SEP] included."""
    generator_nats: Tensor
    """Scalar: cross-entropy summed over the masked positions."""
    discriminator_nats: Tensor
    """Scalar: binary cross-entropy summed over the tokens."""


class Electra(Objective):
    """Replaced-token detection."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Settings of the paper; section 3.1 and appendix A."""

        mask_fraction: float = 0.15
        """Share of the tokens that is masked (paper: 0.15; large: 0.25)."""
        mask_share: float = 0.85
        """Share of those that the generator sees as [MASK]; the others it sees as they are (released code)."""
        discriminator_weight: float = 50.0
        """Factor of the discriminator's loss, above 0 (paper: 50)."""

        def __post_init__(self) -> None:
            if not 0 < self.mask_fraction < 1:
                raise ValueError(f"mask_fraction is {self.mask_fraction}: a share above 0 and below 1")
            if not 0 <= self.mask_share <= 1:
                raise ValueError(f"mask_share is {self.mask_share}: a share from 0 to 1")
            if not self.discriminator_weight > 0:
                raise ValueError(f"discriminator_weight is {self.discriminator_weight}: it must be above 0")

    def __init__(self, model: ModelConfig, config: Any, vocab_size: int, seed: int) -> None:
        super().__init__(model, config, vocab_size, seed)
        self.discriminator, self.generator = build_pair(model, vocab_size)
        initialize(self, model, seed)

    def counts(self, batch: Batch) -> Sums:
        """Masked positions, and tokens that are not padding."""
        return {
            "generator": total(count_masked(batch.ids, self.config.mask_fraction)),
            "discriminator": total(batch.ids != PAD_ID),
        }

    def forward(self, batch: Batch, totals: Sums) -> tuple[Tensor, Sums]:
        """See Objective.forward."""
        play = self._play(batch)
        generator = play.generator_nats / totals["generator"]
        discriminator = play.discriminator_nats / totals["discriminator"]
        return (generator + self.config.discriminator_weight * discriminator).float(), self._loss_sums(play)

    @torch.no_grad()
    def evaluate(self, batch: Batch, frequency: Tensor | None = None) -> Sums:
        """See Objective.evaluate."""
        play = self._play(batch)
        real = play.tokens & ~play.fake
        sums = self._loss_sums(play)
        sums |= language_sums(play.guesses, play.targets, play.sampled, play.chosen)
        sums |= detection_sums(play.logits, play.fake, real)
        if frequency is not None:
            sums |= unigram_sums(play.targets, play.chosen, frequency)
            sums |= frequency_sums(play.corrupted, play.fake, real, frequency)
        return sums

    def metrics(self, sums: Sums, training: bool) -> dict[str, float]:
        """See Objective.metrics; "loss" is what is optimised, the two others are unweighted."""
        generator = ratio(sums["generator/nats"], sums["generator/masked"])
        discriminator = ratio(sums["discriminator/nats"], sums["discriminator/tokens"])
        losses = {
            "loss": generator + self.config.discriminator_weight * discriminator,
            "generator/loss": generator,
            "discriminator/loss": discriminator,
        }
        return losses if training else losses | language_metrics(sums) | detection_metrics(sums)

    def networks(self) -> dict[str, nn.Module]:
        """Both, sharing their embeddings."""
        return {"discriminator": self.discriminator, "generator": self.generator}

    def flops(self, batch: int, seq: int) -> float:
        """See Objective.flops."""
        generator, discriminator = self.generator.config, self.discriminator.config
        forward = encoder_flops(generator, batch, seq) + encoder_flops(discriminator, batch, seq)
        forward += language_head_flops(generator, batch * most_masked(seq, self.config.mask_fraction))
        forward += detection_head_flops(discriminator, batch * seq)
        return FORWARD_AND_BACKWARD * forward

    def _play(self, batch: Batch) -> Round:
        """Mask, guess, sample, put the samples in, and ask the discriminator about every token."""
        config, ids = self.config, batch.ids
        groups = document_groups(ids, batch.documents, batch.room)
        masked = mask_tokens(
            ids, batch.sample, self.seed, config.mask_fraction, config.mask_share, 0.0, self.vocab_size
        )
        with self.computing(ids.device):
            guesses = self.generator(masked.ids, groups, batch.segments, masked.positions)
        uniforms = draw_uniforms(self.seed, batch.sample, masked.positions)
        nats, sampled = read_guesses(guesses, masked.targets, masked.chosen, uniforms)
        corrupted = replace_tokens(ids, masked.positions, sampled)  # over the original ids: every [MASK] is gone
        fake, tokens = corrupted != ids, ids != PAD_ID
        with self.computing(ids.device):
            logits = self.discriminator(corrupted, groups, batch.segments)
        logits = logits.float()
        told = binary_cross_entropy_with_logits(logits, fake.float(), reduction="none")
        return Round(
            guesses=guesses,
            targets=masked.targets,
            chosen=masked.chosen,
            sampled=sampled,
            corrupted=corrupted,
            logits=logits,
            fake=fake,
            tokens=tokens,
            generator_nats=nats,
            discriminator_nats=(told * tokens).sum(),
        )

    def _loss_sums(self, play: Round) -> Sums:
        return {
            "generator/nats": total(play.generator_nats),
            "generator/masked": total(play.chosen),
            "discriminator/nats": total(play.discriminator_nats),
            "discriminator/tokens": total(play.tokens),
        }
