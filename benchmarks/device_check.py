"""All forms of the step against the plain one on a device, by torch alone: gpu_smoke.sh runs it before the table.

    python benchmarks/device_check.py [--device cuda]

Each check prints a line with the largest relative difference found and what is allowed; the exit code is 1 if any is
larger. Small networks of both bodies, documents packed and padded, bf16 unless said otherwise. On a CPU the compiler
only traces: its kernels there are not what is asked about.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model.attention import attention_bias, document_groups
from model.compiled import compile_forward
from model.config import BODIES, CLS_ID, PAD_ID, SPECIAL_IDS, GeneratorConfig, ModelConfig
from model.guesses import read_guesses
from model.objectives.base import Batch, Objective, build_objective, objective_class
from model.paths import plain_forms
from model.stretches import attend_by_stretches, count_stretches, room_for, stretches_of

VOCABULARY, ROWS, SEQ = 2000, 8, 256
HALF, SINGLE = 0.04, 1e-4
"""Allowed where bf16 rounds otherwise, and in float32."""
Check = tuple[str, float, float]
"""Name, what was found, what is allowed."""


def small(body: str, dropout: float = 0.0, half: bool = True, device: str = "cuda") -> Objective:
    """Two networks of two and one layers."""
    model = ModelConfig(
        body=body,
        hidden_size=128,
        layers=2,
        heads=2,
        ffn_size=256,
        dropout=dropout,
        attention_dropout=dropout,
        max_positions=SEQ,
        local_window=32,
        generator=GeneratorConfig(size=0.5),
    )
    objective = build_objective("electra", model, objective_class("electra").Config(), VOCABULARY, 0).to(device)
    objective.compute_dtype = torch.bfloat16 if half else None
    return objective


def packed(device: str) -> Batch:
    """Documents of 37 tokens in each row, the last one padded."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(len(SPECIAL_IDS), VOCABULARY, (ROWS, SEQ), generator=generator)
    ids[:, 0] = CLS_ID
    place = torch.arange(SEQ)
    ids = ids.masked_fill(place >= SEQ - 9 * torch.arange(ROWS)[:, None], PAD_ID)
    documents = torch.stack([(place + 11 * row) // 37 for row in range(ROWS)])
    room = room_for(count_stretches(document_groups(ids, documents).numbers))
    return replace(Batch(ids, torch.arange(ROWS), documents).to(device), room=room)


def learned(objective: Objective, batch: Batch, times: int = 1) -> list[Tensor]:
    """The loss and all gradients, added up over `times` forward and backward passes."""
    objective.zero_grad()
    for _ in range(times):
        loss, _ = objective(batch, objective.counts(batch))
        loss.backward()
        loss = loss.detach().clone()
    return [loss, *(one.grad.clone() for one in objective.parameters() if one.grad is not None)]


def apart(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest norm of a difference, over the expected loss or over the norm of all expected gradients."""
    norms = [float(one.detach().float().norm()) for one in expected]
    parts = [float((a.detach().float() - b.detach().float()).norm()) for a, b in zip(found, expected, strict=True)]
    gradient = sum(norm**2 for norm in norms[1:]) ** 0.5
    return max(parts[0] / norms[0], *(part / gradient for part in parts[1:]), 0.0)


def kernel(device: str) -> Iterator[Check]:
    """The flash kernel against the mask."""
    batch = packed(device)
    numbers = document_groups(batch.ids, batch.documents).numbers
    made = torch.randn(3, ROWS, SEQ, 2, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
    query, key, value = made.unbind()
    upstream = torch.randn(ROWS, SEQ, 2, 64, device=device, dtype=torch.bfloat16)
    for window in (None, 16):
        seen = stretches_of(numbers, batch.room or 0, window)
        out = attend_by_stretches(query, key, value, seen, 0.0)
        exact = made.detach().float().requires_grad_()
        q, k, v = exact.transpose(2, 3).unbind()
        bias = attention_bias(numbers, window)
        right = ((q @ k.mT * 64**-0.5 + bias).softmax(-1) @ v).transpose(1, 2)
        found = [out, *torch.autograd.grad(out, made, upstream)]
        expected = [right, *torch.autograd.grad(right, exact, upstream.float())]
        yield f"flash over stretches, window {window}", apart(found, expected), HALF
    dropped = attend_by_stretches(query, key, torch.ones_like(value), seen, 0.1)
    yield "flash over stretches drops a tenth", abs(float(dropped.float().mean()) - 1), 0.01


def losses(device: str) -> Iterator[Check]:
    """The loss over the vocabulary in one pass."""
    scores = torch.randn(7, 11, VOCABULARY, device=device, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (7, 11), device=device)
    chosen, uniforms = torch.rand(7, 11, device=device) < 0.8, torch.rand(7, 11, 2, device=device)
    results = []
    for form in (nullcontext(), plain_forms()):
        with form:
            nats, drawn = read_guesses(scores, targets, chosen, uniforms)
            results.append([nats, *torch.autograd.grad(nats, scores)])
            results[-1].append(drawn.float())
    yield "loss and draws in one pass, fp32", apart(*results), SINGLE


def objectives(device: str) -> Iterator[Check]:
    """Whole steps: the device's forms, recomputed, compiled, as graphs."""
    batch = packed(device)
    for body in BODIES:
        for half in (True, False):
            told = f"{body}, {'bf16' if half else 'fp32'}"
            allowed = HALF if half else SINGLE
            with plain_forms():
                expected = learned(small(body, half=half, device=device), batch)
            yield (
                f"{told}: the device's forms",
                apart(learned(small(body, half=half, device=device), batch), expected),
                allowed,
            )
            if half:  # it takes half a minute
                compiled = small(body, device=device)
                compile_forward(compiled, backend="inductor" if device == "cuda" else "aot_eager")
                yield f"{told}: compiled", apart(learned(compiled, batch), expected), allowed
        recomputed = small(body, 0.1, device=device)
        torch.manual_seed(1)
        first = learned(recomputed, batch)
        recomputed.recompute()
        torch.manual_seed(1)
        yield f"{body}: recomputed, dropout 0.1", apart(learned(recomputed, batch), first), 1e-2
        if device == "cuda":
            graphs = small(body, device=device)
            compile_forward(graphs, graphs=True)
            for _ in range(3):
                learned(graphs, batch)
            expected = learned(small(body, device=device), batch, times=2)
            yield f"{body}: graphs, two micro-steps", apart(learned(graphs, batch, times=2), expected), HALF


def waiting(device: str) -> Iterator[Check]:
    """Nothing inside a step waits for the device: an error of torch's own, if so."""
    for body in BODIES:
        objective = small(body, 0.1)
        optimizer = torch.optim.AdamW(objective.parameters(), fused=True)
        host = packed("cpu").pinned()
        for mode in ("default", "error"):
            torch.cuda.set_sync_debug_mode(mode)
            learned_once(objective, optimizer, host)
        torch.cuda.set_sync_debug_mode("default")
        yield f"{body}: nothing waits for the device", 0.0, 0.0


def learned_once(objective: Objective, optimizer: torch.optim.Optimizer, host: Batch) -> None:
    """An update from pinned rows."""
    batch = host.to("cuda")
    loss, _ = objective(batch, objective.counts(batch))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def curves(device: str) -> Iterator[Check]:
    """Fifty updates side by side: the mean of the last ten losses."""
    batch = packed(device)
    for body in BODIES:
        ends: list[Tensor] = []
        for form in (nullcontext(), plain_forms()):
            objective = small(body, device=device)
            optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3, fused=True)
            told = []
            with form:
                for step in range(50):
                    loss, _ = objective(replace(batch, sample=batch.sample + ROWS * step), objective.counts(batch))
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    told.append(loss.detach())
            ends.append(torch.stack(told[-10:]).mean())
        yield f"{body}: 50 updates beside the plain form's", apart(ends[:1], ends[1:]), HALF


def main() -> None:
    """Reads the command line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    device = arguments.parse_args().device
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU is found by torch; --device cpu checks what a CPU has")
    parts: list[Callable[[str], Any]] = [losses, objectives, curves]
    if device == "cuda":
        parts = [kernel, waiting, *parts]
    began, bad = time.perf_counter(), 0
    for part in parts:
        try:
            for name, found, allowed in part(device):
                good = found <= allowed
                bad += not good
                print(f"{'ok  ' if good else 'FAIL'} {name}: {found:.2g} (at most {allowed:g})", flush=True)
        except RuntimeError as error:  # what follows is still worth knowing
            bad += 1
            print(f"FAIL {part.__name__}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
    print(f"{bad} failed, {time.perf_counter() - began:.0f} s")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
