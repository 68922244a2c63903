"""The [CLS] vector head of the paper, and how it is written as the library's own head.

ELECTRA's released code (run_finetuning.py, classification_tasks.py) puts dropout and one linear layer over the [CLS]
vector; transformers' ElectraForSequenceClassification has a dense layer with GELU in between. Promise: the saved folder
is an ordinary one of the library and gives the trained logits to fp32 rounding (1e-5 or so, as the 64 costs the vector
6 of its 24 bits). BERT's and ModernBERT's own heads read [CLS] through layers that pretraining filled, and stay.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

LEAST_SHIFT = 64.0
"""GELU is the identity on x + 64 for any x above -56; the last layer's bias takes the 64 back."""
IDENTITY_FROM = 8.0
"""x - gelu(x) is below 1e-13 from here on."""


class ClsHead(nn.Module):
    """Dropout and a linear layer over the first token's vector."""

    def __init__(self, hidden_size: int, labels: int, dropout: float, std: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, labels)
        nn.init.normal_(self.out_proj.weight, std=std)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, features: Tensor, **_: Any) -> Tensor:
        """features (batch, seq, hidden) to logits (batch, labels)."""
        logits: Tensor = self.out_proj(self.dropout(features[:, 0]))
        return logits


def put_cls_head(model: Any, seed: int, dropout: float) -> None:
    """Replaces an ELECTRA classifier's head; another architecture is left as it is."""
    if model.config.model_type != "electra":
        return
    torch.manual_seed(seed)
    config = model.config
    head = ClsHead(config.hidden_size, config.num_labels, dropout, config.initializer_range)
    model.classifier = head.to(next(model.parameters()).device)


def as_library_head(head: ClsHead, library: nn.Module, norm: nn.LayerNorm) -> nn.Module:
    """The same function in the library's head (dense, GELU, out_proj), which is filled and returned.

    norm: the LayerNorm that the vectors come from. It lets nothing through beyond sqrt(n) times its scale plus its
    shift; where that is more than 56, the next power of two is taken for the 64.
    """
    bound = math.sqrt(norm.weight.numel()) * float(norm.weight.detach().abs().max()) + float(
        norm.bias.detach().abs().max()
    )
    shift = max(LEAST_SHIFT, 2.0 ** math.ceil(math.log2(bound + IDENTITY_FROM)))
    dense, out = library.get_submodule("dense"), library.get_submodule("out_proj")
    assert isinstance(dense, nn.Linear)
    assert isinstance(out, nn.Linear)
    weight, bias = head.out_proj.weight.detach().double(), head.out_proj.bias.detach().double()
    with torch.no_grad():
        nn.init.eye_(dense.weight)
        dense.bias.fill_(shift)
        out.weight.copy_(weight)
        out.bias.copy_(bias - shift * weight.sum(1))
    return library
