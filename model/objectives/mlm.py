"""Masked language modelling: the BERT baseline by the same code (Devlin et al. 2019, section 3.1).

    loss = E[cross-entropy at the masked positions], the input there 80 % [MASK], 10 % a random token, 10 % kept

One network of the discriminator's size, with the language head; exported as "generator". Promise: masks depend on
(seed, global sample index) alone. Differs from BERT: no next-sentence task, masks new in every epoch.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.attention import document_groups
from model.config import ModelConfig, discriminator_config
from model.flops import FORWARD_AND_BACKWARD, encoder_flops, language_head_flops
from model.guesses import read_guesses
from model.layers import initialize
from model.masking import Masked, count_masked, mask_tokens, most_masked
from model.measures import Sums, language_metrics, language_sums, ratio, total, unigram_sums
from model.networks import MaskedLanguageModel
from model.objectives.base import Batch, Objective
from model.sampling import draw_uniforms


class Mlm(Objective):
    """BERT's masked language model."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Settings of BERT, section 3.1."""

        mask_fraction: float = 0.15
        """Share of the tokens that is to be guessed."""
        mask_share: float = 0.8
        """Share of those that the network sees as [MASK]."""
        random_share: float = 0.1
        """Share of those that it sees as a random token; the rest it sees as they are."""

        def __post_init__(self) -> None:
            if not 0 < self.mask_fraction < 1:
                raise ValueError(f"mask_fraction is {self.mask_fraction}: a share above 0 and below 1")
            if not (self.mask_share >= 0 and self.random_share >= 0 and self.mask_share + self.random_share <= 1):
                raise ValueError(
                    f"mask_share is {self.mask_share} and random_share {self.random_share}: "
                    "shares from 0, together at most 1"
                )

    def __init__(self, model: ModelConfig, config: Any, vocab_size: int, seed: int) -> None:
        super().__init__(model, config, vocab_size, seed)
        self.generator = MaskedLanguageModel(discriminator_config(model, vocab_size))
        initialize(self, model, seed)

    def counts(self, batch: Batch) -> Sums:
        """Masked positions."""
        return {"generator": total(count_masked(batch.ids, self.config.mask_fraction))}

    def forward(self, batch: Batch, totals: Sums) -> tuple[Tensor, Sums]:
        """See Objective.forward."""
        masked, guesses = self._guess(batch)
        nats, _ = read_guesses(guesses, masked.targets, masked.chosen, None)
        return (nats / totals["generator"]).float(), self._loss_sums(masked, nats)

    @torch.no_grad()
    def evaluate(self, batch: Batch, frequency: Tensor | None = None) -> Sums:
        """See Objective.evaluate."""
        masked, guesses = self._guess(batch)
        uniforms = draw_uniforms(self.seed, batch.sample, masked.positions)
        nats, sampled = read_guesses(guesses, masked.targets, masked.chosen, uniforms)
        sums = self._loss_sums(masked, nats)
        sums |= language_sums(guesses, masked.targets, sampled, masked.chosen)
        if frequency is not None:
            sums |= unigram_sums(masked.targets, masked.chosen, frequency)
        return sums

    def metrics(self, sums: Sums, training: bool) -> dict[str, float]:
        """See Objective.metrics."""
        loss = ratio(sums["generator/nats"], sums["generator/masked"])
        losses = {"loss": loss, "generator/loss": loss}
        return losses if training else losses | language_metrics(sums)

    def networks(self) -> dict[str, nn.Module]:
        """The one network."""
        return {"generator": self.generator}

    def flops(self, batch: int, seq: int) -> float:
        """See Objective.flops."""
        config = self.generator.config
        rows = batch * most_masked(seq, self.config.mask_fraction)
        return FORWARD_AND_BACKWARD * (encoder_flops(config, batch, seq) + language_head_flops(config, rows))

    def _guess(self, batch: Batch) -> tuple[Masked, Tensor]:
        """The masked batch, and scores (batch, k, vocab)."""
        config = self.config
        masked = mask_tokens(
            batch.ids,
            batch.sample,
            self.seed,
            config.mask_fraction,
            config.mask_share,
            config.random_share,
            self.vocab_size,
        )
        groups = document_groups(batch.ids, batch.documents, batch.room)
        with self.computing(batch.ids.device):
            return masked, self.generator(masked.ids, groups, batch.segments, masked.positions)

    def _loss_sums(self, masked: Masked, nats: Tensor) -> Sums:
        return {"generator/nats": total(nats), "generator/masked": total(masked.chosen)}
