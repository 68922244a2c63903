"""The paper's encoder (ELECTRA, Clark et al. 2020, section 3.1; BERT, Devlin et al. 2019): learned positions,
post-norm, erf GELU.

Promise: with the same weights, the outputs of transformers' ElectraModel. The embedding tables and their LayerNorm
may be shared with another network; the projection to the network's own width is its own.
"""

import torch
from torch import Tensor, nn

from model.attention import Groups, SelfAttention, Sight, sight
from model.config import SEGMENT_TYPES, EncoderConfig
from model.dropout import Dropout
from model.layers import LayerNorm, through
from model.products import GeluLinear, Linear


class Embeddings(nn.Module):
    """Word + position + token type, normalised. Generator and discriminator share one instance."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.embedding_size)
        self.position = nn.Embedding(config.max_positions, config.embedding_size)
        self.segment = nn.Embedding(SEGMENT_TYPES, config.embedding_size)
        self.norm = LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, ids: Tensor, segments: Tensor | None) -> Tensor:
        """ids, segments (batch, seq) -> (batch, seq, embedding_size). segments None: all of type 0."""
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        segments = torch.zeros_like(places) if segments is None else segments
        return self.dropout(self.norm(self.word(ids) + self.segment(segments) + self.position(places)))


class Layer(nn.Module):
    """Attention, then the feed-forward network, each added to its input and normalised afterwards."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config, bias=True)
        self.attention_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.ffn_in = Linear(config.hidden_size, config.ffn_size)
        self.ffn_out = GeluLinear(config.ffn_size, config.hidden_size)
        self.ffn_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, seen: Sight) -> Tensor:
        """x (batch, seq, hidden) -> the same shape."""
        x = self.attention_norm(self.dropout.added(x, self.attention(x, seen)))
        return self.ffn_norm(self.dropout.added(x, self.ffn_out(self.ffn_in(x))))


class Encoder(nn.Module):
    """ids -> hidden states. `embeddings`: another network's, to share them; None makes new ones."""

    recompute = False
    """Whether the backward pass runs each layer again instead of keeping what is inside it."""

    def __init__(self, config: EncoderConfig, embeddings: Embeddings | None = None) -> None:
        super().__init__()
        self.embeddings = Embeddings(config) if embeddings is None else embeddings
        same = config.embedding_size == config.hidden_size
        self.head_size = config.head_size
        self.project = nn.Identity() if same else Linear(config.embedding_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def forward(self, ids: Tensor, groups: Groups, segments: Tensor | None) -> Tensor:
        """ids, segments (batch, seq) -> (batch, seq, hidden)."""
        seen = sight(groups, None, self.head_size)
        x = self.project(self.embeddings(ids, segments))
        for layer in self.layers:
            x = through(layer, self.recompute, x, seen)
        return x
