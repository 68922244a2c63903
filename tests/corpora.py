"""Small corpora of every format, and runs of the preprocess stage over them."""

import gzip
import hashlib
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipeline.base.config import RunConfig, load_config

BLOCK, SHARD = 512, 5
FRACTION = 0.1


def make_texts(seed: int, count: int) -> list[str]:
    """Documents of made-up words, some with names of special pieces, some in other scripts."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(400)]
    words += ["[MASK]", "[CLS]", "漢字", "мир", "▁"]
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 120))) for _ in range(count)]
    return [text.replace(" ", "\n", 1) for text in texts]


def make_corpus(folder: Path) -> list[str]:
    """Files of every kind in reading order, with a few bad records; the valid documents."""
    texts = [make_texts(number, 150) for number in range(6)]
    folder.mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbf" + "\n\n".join(texts[0]).replace("\n", "\r\n").encode())
    lines = [json.dumps({"text": text}) for text in texts[1]]
    (folder / "b.jsonl").write_text("\n".join([*lines[:70], "{broken", "", '{"text": 7}', *lines[70:]]))
    (folder / "c.jsonl.gz").write_bytes(gzip.compress("\n".join(json.dumps({"text": t}) for t in texts[2]).encode()))
    (folder / "d.txt.zst").write_bytes(zstandard.ZstdCompressor().compress("\n\n\n".join(texts[3]).encode()))
    (folder / "e.jsonl").touch()
    pq.write_table(pa.table({"text": texts[4]}), folder / "f.parquet", row_group_size=40)
    for number, text in enumerate(texts[5]):
        (folder / "g").mkdir(exist_ok=True)
        (folder / "g" / f"{number:03d}.txt").write_text(text + "\n")
    return [text for one in texts for text in one]


def config_for(shared: Path, run_dir: Path, *more: str) -> RunConfig:
    """A small run over the corpus in shared/corpus, on local Ray; the MLflow store is that of all these tests."""
    settings = [
        f"run_dir={run_dir}",
        f"corpus.paths=[{shared / 'corpus'}]",
        "corpus.task_bytes=9000",
        f"corpus.validation_fraction={FRACTION}",
        "tokenizer.vocab_size=700",
        f"data.block_tokens={BLOCK}",
        f"data.shard_blocks={SHARD}",
        f"tracking.uri=sqlite:///{shared.parent / 'mlflow.db'}",
        "ray.address=local",
        "ray.num_cpus=2",
    ]
    return load_config(None, [*settings, *more])


def digests(run_dir: Path) -> dict[str, str]:
    """sha256 of everything in the data set but the manifest, whose config names the run's folder."""
    files = [path for path in run_dir.rglob("*") if path.is_file() and path.parent.name != "log"]
    names = ("statistics.json", "report.html")
    kept = [path for path in files if path.suffix in (".tar", ".model", ".jsonl") or path.name in names]
    return {str(path.relative_to(run_dir)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}
