"""The preprocess stage against bare SentencePiece on the same text, in interleaved rounds of one run.

    python benchmarks/preprocess.py [--corpus FILE.jsonl] [--rounds 3]

Without --corpus the text is gathered from the documentation strings of the installed packages. The stage reads, checks,
tokenises, writes and digests with a given tokenizer, on one worker and on two; Ray's own start is not counted.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from pipeline.base.config import load_config
from pipeline.base.log import setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.workers import connected
from pipeline.demo.docstrings import gather, to_lines
from pipeline.stages.preprocess_build import Build
from pipeline.stages.preprocess_inputs import read_inputs
from pipeline.vocabulary.codec import SentencePieceCodec
from pipeline.vocabulary.train import train_tokenizer

VOCABULARY = 16_000
LINES_A_CALL = 1000


def bare(codec: SentencePieceCodec, texts: list[str]) -> float:
    """Seconds that SentencePiece alone takes, over lists of documents, on one core."""
    began = time.perf_counter()
    for start in range(0, len(texts), LINES_A_CALL):
        codec.encode(texts[start : start + LINES_A_CALL])
    return time.perf_counter() - began


def ready(number: int) -> int:
    """Nothing: a task whose result says that a worker is up."""
    return number


def stage(corpus: Path, tokenizer: Path, run_dir: Path, workers: int) -> float:
    """Seconds of the stage, once its workers run."""
    settings = [f"run_dir={run_dir}", f"corpus.paths=[{corpus}]", f"tokenizer.path={tokenizer}", "ray.address=local"]
    config = load_config(None, [*settings, f"ray.num_cpus={workers}", "corpus.task_bytes=4194304"])
    folder = RunFolder(run_dir)
    inputs = read_inputs(config, folder)
    with connected(config.ray) as ray:
        list(ray.map_ordered(ready, [(number,) for number in range(2 * workers)]))  # the processes are up
        began = time.perf_counter()
        Build(config, folder, inputs, ray).run()
        return time.perf_counter() - began


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--corpus", type=Path)
    arguments.add_argument("--rounds", type=int, default=3)
    chosen = arguments.parse_args()
    setup_logging(None, rank=1)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        corpus = chosen.corpus or scratch / "corpus.jsonl"
        if chosen.corpus is None:
            corpus.write_bytes(to_lines(gather())[0])
        texts = [json.loads(line)["text"] for line in corpus.read_text(encoding="utf-8").splitlines()]
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        config = load_config(None, [f"tokenizer.vocab_size={VOCABULARY}", "tokenizer.sample_bytes=5000000"])
        sample, size = [], 0
        for text in texts:
            sample.append(text)
            size += len(text.encode())
            if size > config.tokenizer.sample_bytes:
                break
        codec = SentencePieceCodec(train_tokenizer(sample, config.tokenizer, seed=0))
        tokenizer = scratch / "tokenizer.model"
        tokenizer.write_bytes(codec.model)
        seconds: dict[str, list[float]] = {
            "SentencePiece alone, 1 core": [],
            "stage, 1 worker": [],
            "stage, 2 workers": [],
        }
        for number in range(chosen.rounds):
            seconds["SentencePiece alone, 1 core"].append(bare(codec, texts))
            for workers, label in ((1, "stage, 1 worker"), (2, "stage, 2 workers")):
                seconds[label].append(stage(corpus, tokenizer, scratch / f"run-{number}-{workers}", workers))
    print(
        f"\n{megabytes:.1f} MB of text, {len(texts):,} texts, {VOCABULARY:,} pieces, {chosen.rounds} rounds, medians\n"
    )
    print("| what | seconds | MB/s | x SentencePiece |\n|---|---|---|---|")
    reference = statistics.median(seconds["SentencePiece alone, 1 core"])
    for label, values in seconds.items():
        median = statistics.median(values)
        print(f"| {label} | {median:.1f} | {megabytes / median:.1f} | {reference / median:.2f} |")


if __name__ == "__main__":
    main()
