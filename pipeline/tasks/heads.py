"""The [CLS] vector head of the paper, and how it is written as the library's own head.

ELECTRA's released code (run_finetuning.py, classification_tasks.py) puts dropout and one linear layer over the [CLS]
vector; transformers' ElectraForSequenceClassification has a dense layer with GELU in between. Promise: the saved folder
is an ordinary one of the library and gives the trained logits to fp32 rounding. BERT's and ModernBERT's own heads read
[CLS] through layers that pretraining filled, and stay.
"""

from typing import Any

import torch
from torch import Tensor, nn

IDENTITY_SHIFT = 64.0
"""GELU is the identity on x + 64 for any x that a LayerNorm lets through; the last layer's bias takes the 64 back."""


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


def as_library_head(head: ClsHead, library: nn.Module) -> nn.Module:
    """The same function in the library's head (dense, GELU, out_proj), which is filled and returned."""
    dense, out = library.get_submodule("dense"), library.get_submodule("out_proj")
    assert isinstance(dense, nn.Linear)
    assert isinstance(out, nn.Linear)
    weight, bias = head.out_proj.weight.detach().double(), head.out_proj.bias.detach().double()
    with torch.no_grad():
        nn.init.eye_(dense.weight)
        dense.bias.fill_(IDENTITY_SHIFT)
        out.weight.copy_(weight)
        out.bias.copy_(bias - IDENTITY_SHIFT * weight.sum(1))
    return library
