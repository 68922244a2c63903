"""The preprocess stage beside bare SentencePiece on the same text and as many cores, in interleaved rounds of one run.

    python benchmarks/preprocess.py [--corpus NAME=FILES ...] [--size MB] [--workers 1 2] [--rounds 3]
                                    [--rows plain clean deduplicate] [--datatrove PYTHON]

--corpus: a name and a glob of .jsonl files, packed or not; by default the documentation strings of the installed
packages. --size: megabytes of text, for which the files are taken again under other names, or only the first of them.
The stage reads, decompresses, checks, cleans, encodes, writes and digests with a given tokenizer, trained on the first
5 MB; the start of Ray and of its workers is told apart. SentencePiece encodes lists of texts that lie in memory, in a
process a core: to lists of Python's numbers, which is what `encode` gives, and to arrays, which is the least that it
can do.
--datatrove: a Python with datatrove 0.10, which tokenises the same files once, with Hugging Face's `tokenizers` and
our export of the same vocabulary: it has no other.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from pipeline.base.config import load_config
from pipeline.base.log import setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.workers import connected
from pipeline.corpus.files import find_files
from pipeline.corpus.records import Tally
from pipeline.corpus.tasks import plan_tasks, read_span
from pipeline.demo.docstrings import gather, to_lines
from pipeline.stages.preprocess_build import Build
from pipeline.stages.preprocess_inputs import read_inputs
from pipeline.vocabulary.codec import SentencePieceCodec
from pipeline.vocabulary.fast import fast_tokenizer
from pipeline.vocabulary.train import train_tokenizer

VOCABULARY = 16_000
SAMPLE_BYTES = 5_000_000
TEXTS_A_CALL = 1000
MOST_BARE_BYTES = 300_000_000
"""SentencePiece's own rate is measured on that much text at most, for it has to lie in memory."""
FILTERS = "{length: {min_characters: 200}, ratios: {}, gopher_quality: {}, fineweb: {}, gopher_repetition: {}}"
ROWS = {
    "plain": [],
    "clean": [f"corpus.clean={FILTERS}"],
    "deduplicate": ["corpus.deduplicate={documents: true, near: true, paragraphs: true}"],
}
LISTS, ARRAYS = "SentencePiece, lists", "SentencePiece, arrays"


@dataclass
class Corpus:
    """Files of text, and a tokenizer of their own."""

    name: str
    files: list[Path]
    tokenizer: Path
    megabytes: float
    """Of text, in UTF-8."""
    task_bytes: int


@dataclass
class Figures:
    """What was measured of one row, a value a round."""

    megabytes: float
    seconds: list[float] = field(default_factory=list)
    of_lists: list[float] = field(default_factory=list)
    of_arrays: list[float] = field(default_factory=list)
    worker_bytes: int = 0
    driver_bytes: int = 0


def texts_of(files: Sequence[Path]) -> Iterator[str]:
    """The valid texts of the files, in order."""
    for task in plan_tasks(find_files([str(file) for file in files]), 1 << 25):
        for span in task.spans:
            for record in read_span(span, "text", 1 << 24, Tally()):
                if record.text is not None:
                    yield record.text


def make_corpus(name: str, files: list[Path], size: float | None, scratch: Path, workers: int) -> Corpus:
    """Trains the tokenizer, and takes the files as often as the size asks for."""
    sample: list[str] = []
    taken = 0
    for text in texts_of(files):
        if taken > SAMPLE_BYTES:
            break
        sample.append(text)
        taken += len(text.encode())
    config = load_config(None, [f"tokenizer.vocab_size={VOCABULARY}", f"tokenizer.sample_bytes={SAMPLE_BYTES}"])
    tokenizer = scratch / name / "tokenizer.model"
    tokenizer.parent.mkdir()
    tokenizer.write_bytes(train_tokenizer(sample, config.tokenizer, seed=0))
    sizes = [sum(len(text.encode()) for text in texts_of([file])) / 1e6 for file in files]
    copies: list[Path] = []
    megabytes = 0.0
    wanted = size if size is not None else sum(sizes)
    while megabytes < 0.98 * wanted:
        number = len(copies)
        copy = scratch / name / "corpus" / f"{number:05d}-{files[number % len(files)].name}"
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(files[number % len(files)], copy)
        copies.append(copy)
        megabytes += sizes[number % len(files)]
    task_bytes = max(1 << 20, min(32 << 20, int(megabytes * 1e6) // (8 * workers)))
    return Corpus(name, copies, tokenizer, megabytes, task_bytes)


def encode_share(corpus: Corpus, share: int, shares: int, arrays: bool, barrier: Any, results: Any) -> None:
    """In a process of its own: encodes every shares-th text, once all processes hold theirs."""
    codec = SentencePieceCodec(corpus.tokenizer.read_bytes())
    texts: list[str] = []
    size = 0
    for number, text in enumerate(texts_of(corpus.files)):
        if number % shares == share:
            texts.append(text)
            size += len(text.encode())
            if size > MOST_BARE_BYTES / shares:
                break
    encode: Any = codec._processor.encode
    kind = "numpy" if arrays else int
    barrier.wait()
    began = time.perf_counter()
    for start in range(0, len(texts), TEXTS_A_CALL):
        encode(texts[start : start + TEXTS_A_CALL], num_threads=1, return_type=kind)
    results.put((size, time.perf_counter() - began))


def bare(corpus: Corpus, processes: int, *, arrays: bool) -> float:
    """Megabytes a second that SentencePiece alone encodes in so many processes."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    children = [
        context.Process(target=encode_share, args=(corpus, share, processes, arrays, barrier, results))
        for share in range(processes)
    ]
    for child in children:
        child.start()
    found = [results.get() for _ in children]
    for child in children:
        child.join()
    return sum(size for size, _ in found) / 1e6 / max(seconds for _, seconds in found)


def peak(process: int | str) -> int:
    """Most resident bytes that the process has had; 0 where it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


class WorkerPeaks:
    """Looks at Ray's workers of this process four times a second until the block ends; `most`: the largest peak."""

    def __init__(self) -> None:
        self.most = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "WorkerPeaks":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.ended.wait(0.25):
            parents: dict[int, int] = {}
            workers = []
            for entry in Path("/proc").glob("[0-9]*"):
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    if (entry / "cmdline").read_bytes().startswith(b"ray::"):
                        workers.append(int(entry.name))
                except OSError:  # it has ended
                    continue
            for worker in workers:
                above = worker
                while above in parents and above != os.getpid():
                    above = parents[above]
                if above == os.getpid():
                    self.most = max(self.most, peak(worker))


def ready(number: int) -> int:
    """A task whose result says that a worker is up and has imported what it needs."""
    import pipeline.stages.preprocess_tasks  # noqa: F401

    return number


def stage(settings: list[str]) -> dict[str, Any]:
    """One run of the stage in this process, which is then no good for another."""
    setup_logging(None, rank=1)
    config = load_config(None, settings)
    folder = RunFolder(Path(config.run_dir))
    inputs = read_inputs(config, folder)
    started = time.perf_counter()
    with connected(config.ray) as ray, WorkerPeaks() as peaks:
        list(ray.map_ordered(ready, [(number,) for number in range(2 * ray.cpus)]))  # the processes are up
        began = time.perf_counter()
        manifest = Build(config, folder, inputs, ray).run()
        seconds = time.perf_counter() - began
        time.sleep(0.5)  # the peaks of the last tasks are seen too
    digests = [shard.sha256 for split in manifest.splits.values() for shard in split.shards]
    return {
        "seconds": seconds,
        "start": began - started,
        "worker": peaks.most,
        "driver": peak("self"),
        "shards": digests,
    }


def run_stage(corpus: Corpus, row: str, workers: int, scratch: Path) -> dict[str, Any]:
    """The stage in a process of its own, and what it has measured."""
    run_dir = scratch / "run"
    settings = [
        f"run_dir={run_dir}",
        f"corpus.paths=[{corpus.files[0].parent}]",
        f"corpus.task_bytes={corpus.task_bytes}",
        f"tokenizer.path={corpus.tokenizer}",
        "ray.address=local",
        f"ray.num_cpus={workers}",
        *ROWS[row],
    ]
    done = subprocess.run([sys.executable, __file__, "--stage", *settings], stdout=subprocess.PIPE, check=True)
    shutil.rmtree(run_dir)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(corpus: Corpus, chosen: argparse.Namespace, scratch: Path) -> dict[tuple[str, int], Figures]:
    """All rows of one corpus by (name, processes), rounds interleaved."""
    table: dict[tuple[str, int], Figures] = {}
    shards: dict[str, Any] = {}
    starts = []
    for _ in range(chosen.rounds):
        for workers in chosen.workers:
            rates = {label: bare(corpus, workers, arrays=label == ARRAYS) for label in (LISTS, ARRAYS)}
            for label, rate in rates.items():
                figures = table.setdefault((label, workers), Figures(corpus.megabytes))
                note(figures, corpus.megabytes / rate, rates)
            for row in chosen.rows:
                found = run_stage(corpus, row, workers, scratch)
                figures = table.setdefault((f"stage, {row}", workers), Figures(corpus.megabytes))
                note(figures, found["seconds"], rates)
                figures.worker_bytes = max(figures.worker_bytes, found["worker"])
                figures.driver_bytes = max(figures.driver_bytes, found["driver"])
                starts.append(found["start"])
                if shards.setdefault(row, found["shards"]) != found["shards"]:
                    sys.exit(f"{row}: other shards with {workers} workers")
    print(f"\n{corpus.name}: {corpus.megabytes:.1f} MB of text in {len(corpus.files)} files; Ray's start, not counted:")
    print(f"{statistics.median(starts):.1f} s. Medians of {chosen.rounds} rounds, peaks the largest of all.")
    return table


def note(figures: Figures, seconds: float, rates: dict[str, float]) -> None:
    """Adds one round to a row, with its ratio to SentencePiece's rates in that round."""
    rate = figures.megabytes / seconds
    figures.seconds.append(seconds)
    figures.of_lists.append(rate / rates[LISTS])
    figures.of_arrays.append(rate / rates[ARRAYS])


def datatrove(corpus: Corpus, workers: int, python: Path, scratch: Path) -> float:
    """Seconds of datatrove's tokenisation, its start not counted."""
    exported = scratch / corpus.name / "tokenizer.json"
    fast_tokenizer(corpus.tokenizer.read_bytes(), 512).backend_tokenizer.save(str(exported))
    script = Path(__file__).with_name("datatrove_tokens.py")
    output = scratch / "datatrove"
    arguments = [str(corpus.files[0].parent), str(exported), str(output), str(workers), str(len(corpus.files))]
    threads = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([python, script, *arguments], capture_output=True, env={**os.environ, **threads})
    if done.returncode:
        sys.exit(f"datatrove failed:\n{done.stderr.decode()}")
    shutil.rmtree(output)
    return float(done.stdout.splitlines()[-1])


def show(table: dict[tuple[str, int], Figures]) -> None:
    """Prints the rows."""
    print("\n| what | cores | seconds | MB/s | x lists | x arrays | worker, MB | driver, MB |")
    print("|---|---|---|---|---|---|---|---|")
    for (label, workers), found in table.items():
        seconds = statistics.median(found.seconds)
        ratios = f"{statistics.median(found.of_lists):.2f} | {statistics.median(found.of_arrays):.2f}"
        peaks = f"{found.worker_bytes / 1e6:.0f} | {found.driver_bytes / 1e6:.0f}" if found.worker_bytes else " | "
        print(f"| {label} | {workers} | {seconds:.1f} | {found.megabytes / seconds:.1f} | {ratios} | {peaks} |")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", action="append", default=[], metavar="NAME=FILES")
    parser.add_argument("--size", type=float, metavar="MB")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["plain"])
    parser.add_argument("--datatrove", type=Path, metavar="PYTHON")
    return parser.parse_args()


def main() -> None:
    """Prints a table for each corpus."""
    if sys.argv[1:2] == ["--stage"]:
        return print(json.dumps(stage(sys.argv[2:])))
    chosen = parse()
    setup_logging(None, rank=1)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        named = dict(pair.split("=", 1) for pair in chosen.corpus)
        if not named:
            (scratch / "docstrings.jsonl").write_bytes(to_lines(gather())[0])
            named = {"docstrings": str(scratch / "docstrings.jsonl")}
        for name, pattern in named.items():
            files = sorted(Path(path) for path in glob(pattern))
            corpus = make_corpus(name, files, chosen.size, scratch, max(chosen.workers))
            table = measure(corpus, chosen, scratch)
            show(table)
            for workers in chosen.workers if chosen.datatrove else []:
                seconds = datatrove(corpus, workers, chosen.datatrove, scratch)
                print(f"| datatrove | {workers} | {seconds:.1f} | {corpus.megabytes / seconds:.1f} | | | | |")
            if not chosen.datatrove:
                print("\nNo row of datatrove: give --datatrove a Python that has it.")
            shutil.rmtree(scratch / name)


if __name__ == "__main__":
    main()
