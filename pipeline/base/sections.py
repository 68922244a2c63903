"""The sections of a run's config: one class a section, one line a key. docs/configuration.md is their table."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from pipeline.base.section import Decay, LocalPlace, Place, Positive, Rate, Section

Seconds = Annotated[float, Field(gt=0, le=1e6)]

SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
"""Kinds of tracking store that MLflow's client takes."""


def _tracking_store(uri: str) -> str:
    if urlsplit(uri).scheme.partition("+")[0] not in SCHEMES:
        raise ValueError(
            f"not a tracking store; use sqlite:///mlflow.db or a server's address such as http://127.0.0.1:5000 "
            f"({', '.join(SCHEMES)})"
        )
    return uri


class TokenizerConfig(Section):
    """The vocabulary."""

    vocab_size: Annotated[int, Field(ge=262)] = 32_000
    """Pieces to train: five special ones and 256 bytes among them."""
    path: Place | None = None
    """A SentencePiece model, a Hugging Face tokenizer.json or vocab.txt, or its folder; by default one is trained."""
    sample_bytes: Positive = 50_000_000
    """At most that much text trains the vocabulary."""
    character_coverage: Annotated[float, Field(ge=0.98, le=1)] = 0.9995
    """Share of the characters that get a piece of their own, 0.98 at least; the rest is spelt in bytes."""


class DataConfig(Section):
    """Blocks, shards, and how they are cut into sequences."""

    path: Place | None = None
    """Another run's folder, or its store's URL, whose data/ and tokenizer/ are used; by default this run's own."""
    revision: Positive | None = None
    """Which revision of the data set is read, where documents were added to it; by default the newest."""
    sequence_length: Annotated[int, Field(ge=8)] = 128
    """Tokens a sequence, [CLS] and [SEP] included."""
    block_tokens: Annotated[int, Field(ge=64)] = 65_536
    """Tokens a block: one sample of a shard."""
    shard_blocks: Positive = 512
    """Blocks a shard."""
    isolate_documents: bool = True
    """Documents packed into one sequence do not attend to each other."""
    segments: Literal["none", "paper"] = "none"
    """paper: two segments with token types 0 and 1, split at a random point (ELECTRA's released code)."""
    shuffle_window: Positive = 1024
    """Consecutive blocks (in shuffled shard order) that are shuffled among each other."""
    shuffle_buffer: Positive = 16
    """Consecutive blocks (after that) whose sequences are shuffled among each other."""
    on_bad_shard: Literal["stop", "skip"] = "stop"
    """skip: a shard of the training that cannot be read is left out, on all ranks alike, and noted in checkpoints."""
    cache: LocalPlace | None = None
    """Folder of this machine for copies of what is read from a URL; by default electra below $XDG_CACHE_HOME."""
    cache_bytes: Positive = 20_000_000_000
    """Most that the copies take; the least recently used go first, but none that is in use."""
    cache_ahead: Positive | None = None
    """Shards that are fetched ahead of need; by default one more than are in use."""


class OptimizerConfig(Section):
    """Adam with decoupled weight decay."""

    name: Literal["electra", "adamw"] = "electra"
    """electra: without bias correction, as the released code of BERT and ELECTRA; adamw: with it."""
    lr: Rate = 5e-4
    """Peak learning rate (paper, appendix A: 5e-4 small, 2e-4 base and large); with init.* lower (docs/continue.md)."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the first and the second moment."""
    eps: Rate = 1e-6
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Not applied to biases and LayerNorm."""
    clip: Rate = 1.0
    """Largest norm of the joint gradient."""


class ScheduleConfig(Section):
    """Learning rate over the steps."""

    name: Literal["linear"] = "linear"
    """Linear decay from step 0, multiplied by the warm-up ramp (released code, optimization.py)."""
    warmup_steps: Annotated[int, Field(ge=0)] = 10_000
    """Steps over which the ramp rises from 0 to 1; with init.* by default 6 % of the steps, at most 10,000."""


class TrainConfig(Section):
    """The loop."""

    steps: Positive = 1_000_000
    """Steps of the whole run; the schedule ends there."""
    batch_size: Positive = 128
    """Global, in sequences: it does not change with the number of ranks, which need not divide it."""
    micro_batch_size: Positive | Literal["auto"] | None = None
    """Most sequences that one forward takes; by default a rank's whole share; auto: the most that fit, found once."""
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """bf16: autocast over fp32 parameters; fp16: DeepSpeed's, with loss scaling, where the accelerator can."""
    compile: Literal["auto", "never", "graphs"] = "auto"
    """torch.compile of forward and backward; auto: on a GPU, but not at ZeRO stage 3; graphs: as CUDA graphs too."""
    recompute: bool = False
    """The backward pass runs each layer again instead of keeping its activations: less memory, a third more work."""
    log_every: Positive = 100
    """Steps between points of the training metrics."""
    eval_every: Positive = 10_000
    """Steps between evaluations on the validation split."""
    eval_sequences: Positive = 4096
    """Most sequences of the validation split that an evaluation uses."""
    save_every: Positive = 10_000
    """Steps between checkpoints."""
    keep_last: Positive = 3
    """Newest checkpoints kept."""
    keep_every: Positive | None = None
    """Checkpoints of steps that are multiples of it are kept for good."""
    keep_best: Annotated[str, Field(pattern="^eval/.")] | None = None
    """Metric of the evaluations by which the best checkpoint is saved and kept too: eval/loss, or another one."""
    max_skipped: Annotated[int, Field(ge=0)] = 100
    """Updates that may be left out in a row because the loss or a gradient was not finite; the next ends the run."""
    stop_seconds: Seconds = 25.0
    """What a stop may take, from the signal to the end: then the process ends with the last good checkpoint."""
    hang_timeout: Seconds = 600.0
    """Longest time in which nothing moves: then all ranks write their threads' stacks and end, to be started again."""
    peer_timeout: Seconds = 15.0
    """How long another rank may be silent, its host cut off: then this one ends, to be started again."""
    on_spike: Literal["record", "rollback"] = "record"
    """What follows on a loss spike: rollback goes on from the last good checkpoint without the batches up to it."""
    spike_window: Annotated[int, Field(ge=8, le=100_000)] = 128
    """Losses that the next one is held against."""
    spike_score: Rate = 8.0
    """Robust deviations above their median from which a loss is a spike."""
    spike_skip: Positive = 32
    """Batches up to the spike that a rollback leaves out, but none before the checkpoint."""
    deterministic: bool = False
    """The same command on the same machine gives the same bits, on a GPU as far as its kernels can; slower there."""
    threads: Annotated[int, Field(gt=0, le=1024)] | None = None
    """CPU threads a rank, at most 1024; by default the cores divided by the ranks of this host."""


class TrackingConfig(Section):
    """MLflow."""

    uri: Annotated[str, AfterValidator(_tracking_store)] = "sqlite:///mlflow.db"
    """A database file in the working folder, or a server's address."""
    experiment: str = "electra"
    """Name of the MLflow experiment."""
    run_name: str | None = None
    """By default the name of the run's folder."""


class RayConfig(Section):
    """Where preprocessing runs."""

    address: str = "auto"
    """auto: the cluster of this job or machine, else a local Ray; local: always a local one; or an address."""
    num_cpus: Positive | None = None
    """CPUs of a local Ray; by default all. The shards do not depend on it."""


class ExportConfig(Section):
    """What becomes Hugging Face folders."""

    checkpoint: str = "latest"
    """latest, or a folder's name such as step-00000120."""


class ReplayConfig(Section):
    """Which kept step is run again."""

    step: Positive | None = None
    """Its number; by default the newest that is kept."""


class InitConfig(Section):
    """Weights that pretraining starts from; without any it starts from random ones."""

    discriminator: Place | None = None
    """A Hugging Face ELECTRA or ModernBERT folder for the discriminator (objective mlm: its network's encoder)."""
    generator: Place | None = None
    """The same for the generator (objective mlm: its one network)."""
    checkpoint: Place | None = None
    """Another run's folder or checkpoint: both networks go on from it, at any sequence length."""


DeepSpeedConfig = dict[str, Any]
