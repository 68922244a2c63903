"""Heads: from hidden states to scores over the vocabulary, or to one score for each token.

Promise: the heads of transformers' ElectraForMaskedLM and ElectraForPreTraining, ModernBertForMaskedLM and
ModernBertForTokenClassification. The language head's matrix is the word table itself (tied).
"""

from torch import Tensor, nn
from torch.nn.functional import gelu

from model.config import EncoderConfig
from model.layers import LayerNorm
from model.products import Linear


class LanguageHead(nn.Module):
    """Dense to the width of the embeddings, GELU, LayerNorm, then the word table and a bias for each piece."""

    def __init__(self, config: EncoderConfig, words: nn.Embedding) -> None:
        super().__init__()
        biased = config.body == "electra"
        self.dense = Linear(config.hidden_size, config.embedding_size, bias=biased)
        self.norm = LayerNorm(config.embedding_size, eps=config.layer_norm_eps, bias=biased)
        self.decoder = Linear(config.embedding_size, config.vocab_size)
        self.decoder.weight = words.weight  # the same Parameter; ZeRO 3 gathers it for whichever module holds it

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (..., hidden_size) -> logits (..., vocab)."""
        return self.decoder(self.norm(gelu(self.dense(hidden))))


class DetectionHead(nn.Module):
    """Dense, GELU (modernbert: LayerNorm), and one logit z: the token was replaced with probability sigmoid(z)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        paper = config.body == "electra"
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=paper)
        self.norm = nn.Identity() if paper else LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)
        self.out = Linear(config.hidden_size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (..., hidden_size) -> logits (...)."""
        return self.out(self.norm(gelu(self.dense(hidden)))).squeeze(-1)
