"""What the loader gives beside what a step eats, on one core; and how soon it gives a first batch.

    python benchmarks/loader.py [--shape small] [--batch 128] [--seq 128] [--seconds 5] [--many 50000] [key=value ...]

Tokens a second of processor time, all threads of the loader together, whole batches in the order of training: from
shards of this machine, and from an S3 server's (moto on loopback) by their local copies, once all shards are open; that
first pass over them is a figure of its own. Beside it the step's, one thread, fp32. The first batch is timed from
reading the manifest on, imports done: of the same data set at sample 0 and in a late epoch, at sample 10^9, and of one
that lists --many shards of 512 blocks, of which only those that the batch needs are there.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the data sets and the server of tests

import numpy as np  # noqa: E402
import torch  # noqa: E402

from pipeline.base.config import RunConfig, load_config  # noqa: E402
from pipeline.base.run_folder import RunFolder  # noqa: E402
from pipeline.base.storage import is_remote, place_of, system_of  # noqa: E402
from pipeline.shards.block import Block, block_key, shard_name  # noqa: E402
from pipeline.shards.manifest import (  # noqa: E402
    CorpusEntry,
    Manifest,
    ShardEntry,
    TokenizerEntry,
    split_entry,
    write_manifest,
)
from pipeline.shards.writer import write_shard  # noqa: E402
from pipeline.stream.loader import Prefetcher, TokenStream  # noqa: E402
from tests.ports import HOST, free_port  # noqa: E402
from tests.s3_server import S3Server, wait_for  # noqa: E402

VOCABULARY, BLOCK, SHARD_BLOCKS = 30_522, 65_536, 512
FAR = 10**9


def settings(chosen: argparse.Namespace, data: object, *more: str) -> RunConfig:
    """The preset, on this data."""
    given = [f"data.path={data}", f"data.sequence_length={chosen.seq}", f"train.batch_size={chosen.batch}"]
    return load_config(ROOT / "configs" / f"{chosen.shape}.yaml", [*given, *more, *chosen.changes])


def open_stream(config: RunConfig) -> TokenStream:
    """The training split."""
    return TokenStream(RunFolder.with_data(config).data, "train", config.data, config.seed)


def rate(config: RunConfig, seconds: float) -> tuple[float, float]:
    """Tokens a second of processor time; wall seconds of the pass before, which opens every shard."""
    began, stream = time.perf_counter(), open_stream(config)
    for sample in range(0, stream.sequences, max(1, stream.sequences // 200)):
        stream.rows(np.array([sample]))
    opened = time.perf_counter() - began
    with Prefetcher(stream, config.train.batch_size, 0, 1, 0) as batches:
        batches.next()
        tokens, began = 0, time.process_time()
        while time.process_time() - began < seconds:
            tokens += batches.next().ids.size
        return tokens / (time.process_time() - began), opened


def first_batch(config: RunConfig, sample: int) -> str:
    """Seconds, wall and processor, from reading the manifest until the batch with this sample is there."""
    began, processor = time.perf_counter(), time.process_time()
    with Prefetcher(open_stream(config), config.train.batch_size, 0, 1, sample // config.train.batch_size) as batches:
        batches.next()
        return f"{time.perf_counter() - began:.2f} | {time.process_time() - processor:.2f}"


def eaten(chosen: argparse.Namespace, config: RunConfig) -> float:
    """Tokens a second of processor time of an update of 16 rows, one thread, fp32."""
    from benchmarks.step_variants import ours, text

    torch.set_num_threads(1)
    given = text(16, chosen.seq, None)
    step = ours(config, given, given.packed(chosen.seq), "fp32")
    took = []
    for _ in range(4):
        began = time.process_time()
        step()
        took.append(time.process_time() - began)
    return 16 * chosen.seq / min(took[1:])


def make_shard(data: Path, number: int, blocks: int) -> ShardEntry:
    """A shard of random pieces, a document about every 500 tokens."""
    rng = np.random.default_rng(number)

    def made(block: int) -> Block:
        ids = rng.integers(5, VOCABULARY, BLOCK).astype("<u2")
        starts = np.flatnonzero(rng.random(BLOCK) < 1 / 500).astype("<i4")
        meta = {"tokens": BLOCK, "first_document": 0, "sources": ["made up"] * 2}
        return Block(block_key("train", block), ids, starts, meta)

    return write_shard(data / "train" / shard_name(number), map(made, range(number * blocks, (number + 1) * blocks)))


def make_run(folder: Path, entries: list[ShardEntry]) -> None:
    """The manifest and a tokenizer's place."""
    run = RunFolder(folder)
    write_manifest(
        run.manifest,
        Manifest(
            block_tokens=BLOCK,
            dtype="uint16",
            tokenizer=TokenizerEntry(sha256="0" * 64, vocab_size=VOCABULARY),
            corpus=CorpusEntry(sha256="0" * 64, documents=0, quarantined=0),
            splits={"train": split_entry(entries)},
            config={},
        ),
    )


def make_many(folder: Path, chosen: argparse.Namespace, samples: tuple[int, ...]) -> RunConfig:
    """A run that lists many shards, of which those of these samples' batches are there."""
    tokens = SHARD_BLOCKS * BLOCK
    known: dict[str, Any] = {"blocks": SHARD_BLOCKS, "tokens": tokens, "documents": tokens // 500, "bytes": 1}
    names = [f"train/{shard_name(number)}" for number in range(chosen.many)]
    entries = [ShardEntry(name=name, sha256=f"{number:064x}", **known) for number, name in enumerate(names)]
    make_run(folder, entries)
    config = settings(chosen, folder)
    order = open_stream(config).parts[0].order
    ahead = np.arange(4 * chosen.batch)  # what the loader makes while the first batch is taken
    for sample in samples:
        for shard in np.unique(order.locate(sample // chosen.batch * chosen.batch + ahead).shard).tolist():
            if entries[shard].bytes == 1:
                entries[shard] = make_shard(folder / "data", shard, SHARD_BLOCKS)
    make_run(folder, entries)
    return config


def serve(folder: Path) -> tuple[S3Server, "subprocess.Popen[bytes]"]:
    """The data set on an S3 server; both processes are the caller's to end."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", HOST, "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(port, process)
    server = S3Server(port)
    os.environ.update(server.environ)
    server.start()
    place = place_of(server.url)
    assert is_remote(place)
    system = system_of(place)
    system.mkdir(server.bucket)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            system.put_file(str(path), f"{server.bucket}/run/{path.relative_to(folder)}")
    return server, process


def measure(chosen: argparse.Namespace, folder: Path) -> None:
    """Prints the tables."""
    local = folder / "local"
    make_run(local, [make_shard(local / "data", number, 128) for number in range(4)])
    config = settings(chosen, local)
    step = eaten(chosen, config)
    print(f"{chosen.shape} {' '.join(chosen.changes)}, batches of {chosen.batch} x {chosen.seq}, 4 shards of 17 MB\n")
    print("| from | tokens/s of processor time | x step | all shards opened, s |\n|---|---|---|---|")
    print(f"| step, one thread | {step:,.0f} | 1 | |")
    given, opened = rate(config, chosen.seconds)
    print(f"| disk | {given:,.0f} | {given / step:,.0f} | {opened:.2f} |", flush=True)
    server, process = serve(local)
    try:
        stored = settings(chosen, f"{server.url}/run", f"data.cache={folder / 'cache'}")
        given, opened = rate(stored, chosen.seconds)
        print(f"| S3 | {given:,.0f} | {given / step:,.0f} | {opened:.2f} |", flush=True)
        again = first_batch(stored, FAR)
    finally:
        server.kill()
        process.kill()
        process.wait()
    print("\n| first batch | sample | s | of a processor |\n|---|---|---|---|")
    for sample in (0, FAR):
        print(f"| 4 shards, disk | {sample:,} | {first_batch(config, sample)} |")
    print(f"| 4 shards, S3, copies there | {FAR:,} | {again} |", flush=True)
    many = make_many(folder / "many", chosen, (0, FAR))
    for sample in (0, FAR):
        print(f"| {chosen.many:,} shards of 67 MB, disk | {sample:,} | {first_batch(many, sample)} |", flush=True)


def main() -> None:
    """Reads the command line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shape", default="small", help="a preset of configs/")
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--seq", type=int, default=128)
    arguments.add_argument("--seconds", type=float, default=5.0)
    arguments.add_argument("--many", type=int, default=50_000)
    arguments.add_argument("changes", nargs="*", metavar="key=value")
    chosen = arguments.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(chosen, Path(folder))


if __name__ == "__main__":
    main()
