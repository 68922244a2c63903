"""train.deterministic: the same command on the same machine gives the same bits.

On a CPU that holds as it is, with the same ranks and threads; this makes torch refuse faster kernels whose order of
additions is left open. On a GPU it covers matrix products, scatters, indexing and NCCL's sums; a kernel that has no
such form (the backward of memory-efficient attention with a mask) runs all the same, and torch warns of it by name.
Price: slower indexing and scatters, and memory that is filled before use.
"""

import os

import torch

ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NCCL_ALGO": "Ring", "NCCL_PROTO": "Simple"}
"""Read by the libraries at their start; what is set already stays."""


def make_deterministic() -> None:
    """For the rest of the process; before the accelerator is used."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
