"""ModernBERT's encoder (Warner et al. 2024): rotary positions, pre-norm, GeGLU, local and global attention in turn,
no biases.

Promise: with the same weights, the outputs of transformers' ModernBertModel. Positions are relative, so a document
packed behind others gives what it gives alone. Price: no embedding projection, so networks that share embeddings are
equally wide; no token types.
"""

from torch import Tensor, nn
from torch.nn.functional import gelu

from model.attention import Groups, Rotary, SelfAttention, Sight, rotary, sight
from model.config import EncoderConfig
from model.dropout import Dropout
from model.layers import LayerNorm, through
from model.products import Linear


class Embeddings(nn.Module):
    """Words, normalised. Generator and discriminator share one instance."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)
        self.dropout = Dropout(config.dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (batch, seq) -> (batch, seq, hidden)."""
        return self.dropout(self.norm(self.word(ids)))


class Layer(nn.Module):
    """Attention and a gated feed-forward network, each on its normalised input; the first layer's input already is."""

    def __init__(self, config: EncoderConfig, first: bool) -> None:
        super().__init__()
        norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)
        self.attention_norm = nn.Identity() if first else norm
        self.attention = SelfAttention(config, bias=False)
        self.attention_dropout = Dropout(config.attention_dropout)
        self.ffn_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)
        self.ffn_in = Linear(config.hidden_size, 2 * config.ffn_size, bias=False)
        self.ffn_out = Linear(config.ffn_size, config.hidden_size, bias=False)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, seen: Sight, angles: Rotary) -> Tensor:
        """x (batch, seq, hidden) -> the same shape."""
        x = self.attention_dropout.added(x, self.attention(self.attention_norm(x), seen, angles))
        value, gate = self.ffn_in(self.ffn_norm(x)).chunk(2, -1)
        return x + self.ffn_out(self.dropout(gelu(value) * gate))


class Encoder(nn.Module):
    """ids -> hidden states. `embeddings`: another network's, to share them; None makes new ones."""

    recompute = False
    """Whether the backward pass runs each layer again instead of keeping what is inside it."""

    def __init__(self, config: EncoderConfig, embeddings: Embeddings | None = None) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config) if embeddings is None else embeddings
        self.layers = nn.ModuleList(Layer(config, first=n == 0) for n in range(config.layers))
        self.norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)

    def forward(self, ids: Tensor, groups: Groups, segments: Tensor | None) -> Tensor:
        """ids (batch, seq) -> (batch, seq, hidden).

        Raises ValueError if segments are given: this body has no token types.
        """
        if segments is not None:
            raise ValueError("the modernbert body has no token types: leave segments out, or take body electra")
        config, seq = self.config, ids.shape[1]
        everywhere = sight(groups, None, config.head_size), rotary(seq, config.head_size, config.rope_theta, ids.device)
        nearby = (
            sight(groups, config.local_window // 2, config.head_size),
            rotary(seq, config.head_size, config.rope_theta_local, ids.device),
        )
        x = self.embeddings(ids)
        for n, layer in enumerate(self.layers):
            x = through(layer, self.recompute, x, *(everywhere if config.is_global(n) else nearby))
        return self.norm(x)
