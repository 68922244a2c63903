"""The networks: a masked language model and a discriminator over either body, alone or sharing their embeddings.

Promise: in training the vocabulary's logits exist at the masked positions only. `logits` is what the exported network
computes.
"""

from collections.abc import Callable

from torch import Tensor, nn

from model.attention import Groups, document_groups
from model.bodies import electra, modernbert
from model.config import EncoderConfig, ModelConfig, discriminator_config, generator_config
from model.heads import DetectionHead, LanguageHead

Encoder = electra.Encoder | modernbert.Encoder


class Network(nn.Module):
    """An encoder that checks what it is given."""

    def __init__(self, config: EncoderConfig, embeddings: nn.Module | None) -> None:
        super().__init__()
        self.config = config
        bodies: dict[str, Callable[..., Encoder]] = {"electra": electra.Encoder, "modernbert": modernbert.Encoder}
        self.encoder = bodies[config.body](config, embeddings)

    def encode(self, ids: Tensor, groups: Groups, segments: Tensor | None) -> Tensor:
        """ids, segments (batch, seq) -> (batch, seq, hidden). Raises ValueError past max_positions."""
        if ids.shape[1] > self.config.max_positions:
            raise ValueError(
                f"a sequence of {ids.shape[1]} tokens, but max_positions is {self.config.max_positions}: "
                "raise max_positions or shorten the sequences"
            )
        return self.encoder(ids, groups, segments)


class MaskedLanguageModel(Network):
    """Scores the vocabulary: the generator, and the mlm objective's network."""

    def __init__(self, config: EncoderConfig, embeddings: nn.Module | None = None) -> None:
        super().__init__(config, embeddings)
        self.head = LanguageHead(config, self.encoder.embeddings.word)

    def forward(self, ids: Tensor, groups: Groups, segments: Tensor | None, positions: Tensor) -> Tensor:
        """Logits at positions (batch, k) alone: (batch, k, vocab); where a position is -1, those of position 0."""
        hidden = self.encode(ids, groups, segments)
        at = positions.clamp(min=0)[..., None].expand(-1, -1, hidden.shape[-1])
        return self.head(hidden.gather(1, at))

    def logits(self, ids: Tensor, documents: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Logits everywhere, (batch, seq, vocab). ids, documents, segments (batch, seq); [PAD] is not attended to."""
        return self.head(self.encode(ids, document_groups(ids, documents), segments))


class Discriminator(Network):
    """Scores each token: sigmoid of the logit is the probability that it was replaced."""

    def __init__(self, config: EncoderConfig, embeddings: nn.Module | None = None) -> None:
        super().__init__(config, embeddings)
        self.head = DetectionHead(config)

    def forward(self, ids: Tensor, groups: Groups, segments: Tensor | None) -> Tensor:
        """Logits (batch, seq). groups come from the original ids: a sampled [PAD] is a token like any other."""
        return self.head(self.encode(ids, groups, segments))

    def logits(self, ids: Tensor, documents: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Logits (batch, seq). ids, documents, segments (batch, seq); [PAD] is not attended to."""
        return self(ids, document_groups(ids, documents), segments)


def build_pair(model: ModelConfig, vocab_size: int) -> tuple[Discriminator, MaskedLanguageModel]:
    """Discriminator and generator that share one embeddings module: tables and LayerNorm (ELECTRA's released code)."""
    discriminator = Discriminator(discriminator_config(model, vocab_size))
    generator = MaskedLanguageModel(generator_config(model, vocab_size), discriminator.encoder.embeddings)
    return discriminator, generator
