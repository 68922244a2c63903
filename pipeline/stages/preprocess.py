"""Corpus to tokenizer and shards: read, clean, drop copies, train the tokenizer, tokenise, write shards, manifest.

The shards depend on the input, the seed and the config alone, not on the workers: tasks are planned from sizes, results
are put together in input order, and a shard is a token range of one stream. Price: without tokenizer.path the corpus is
read twice; the tokens lie on the disk twice until the manifest is written.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.base.config import RunConfig, dump_config
from pipeline.base.errors import UserError
from pipeline.base.files import lock_folder, remove_tree, sha256_file, write_atomic
from pipeline.base.lease import hold_store
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.signals import caught
from pipeline.base.tracking import start_run
from pipeline.base.workers import connected
from pipeline.cleaning.cleaner import Cleaner
from pipeline.cleaning.contamination_index import config_files
from pipeline.corpus.documents import VALIDATION
from pipeline.shards.manifest import Manifest
from pipeline.stages.preprocess_build import Build
from pipeline.stages.preprocess_done import Done, check_done
from pipeline.stages.preprocess_inputs import Inputs, added, find_inputs, read_inputs
from pipeline.stages.preprocess_open import check_work, work_path
from pipeline.stages.preprocess_publish import clear_work, left_over
from pipeline.stages.preprocess_results import report_done
from pipeline.stages.preprocess_totals import MOST_INPUTS, Totals

LOST = signal.SIGUSR2
"""Ends the main thread's wait when the store's lease is lost: SIGINT is ignored in what a script starts with `&`."""


def run(config: RunConfig, *, fresh: bool = False) -> None:
    """Makes data/ and tokenizer/, extends them by new files, or says that they are there already.

    fresh: what is there is removed first.
    """
    setup_logging(None)
    folder = _folder(config)
    if fresh and config.data.path is not None:
        raise UserError(
            "--fresh begins this run's own data set anew, but data.path names another. Leave one of them out."
        )
    if _elsewhere(config, folder):
        return
    seen = _digest(folder)
    done = None if fresh else find_done(config, folder)
    if done is not None and (not done.new or left_over(folder, done.manifest)) and work_path(folder).exists():
        with _locked(folder, seen):
            clear_work(folder, done.manifest)
    if done is not None and not done.new:
        return get_logger().info(_told(folder, done.manifest))
    inputs = read_inputs(config, folder)
    totals = Totals(by_folder=len(inputs.all_files) > MOST_INPUTS)
    if done is not None:
        inputs, totals = added(done.new, done.manifest, folder), Totals.of(done.note["totals"])
        get_logger().info(f"{len(inputs.all_files):,} new files: version {inputs.revision} of {folder.data}")
    with _locked(folder, seen):
        if not fresh:
            check_work(config, folder, inputs)  # a mistake is told before Ray is started
        with connected(config.ray) as workers:
            if fresh:
                folder.manifest.unlink(missing_ok=True)  # first: a kill leaves no data set without its shards
                remove_tree(folder.data)
            setup_logging(folder)
            write_atomic(folder.config, dump_config(config))
            with start_run(config, "preprocess", folder, parents={}) as tracker:
                began = time.monotonic()
                manifest = Build(config, folder, inputs, workers, totals).run()
                megabytes = sum(file.size for file in inputs.all_files) / 1e6
                report_done(manifest, folder, megabytes, tracker, time.monotonic() - began)


@contextmanager
def _locked(folder: RunFolder, seen: str) -> Iterator[None]:
    """Holds the run's folder; UserError where another process has made a data set there since it was looked at."""
    with caught([LOST], signal.default_int_handler), lock_folder(folder.path), hold_store(folder.store, _interrupt):
        if _digest(folder) != seen:
            raise UserError(f"another process has just finished in {folder.data}. Start the same command again.")
        yield


def _interrupt() -> None:
    """As Ctrl-C does: a wait of the main thread ends."""
    os.kill(os.getpid(), LOST)


def _digest(folder: RunFolder) -> str:
    return sha256_file(folder.manifest) if folder.manifest.exists() else ""


def plan(config: RunConfig, *, fresh: bool = False) -> list[tuple[str, str]]:
    """What a run would read and write; checks the inputs, starts nothing, writes nothing."""
    setup_logging(None)
    folder = _folder(config)
    if _elsewhere(config, folder):
        return [("already done", str(RunFolder.with_data(config).manifest))]
    done = None if fresh else find_done(config, folder)
    if done is not None and not done.new:
        return [("already done", str(folder.manifest))]
    inputs = read_inputs(config, folder)
    if done is not None:
        inputs = added(done.new, done.manifest, folder)
    tasks = sum(1 for _ in inputs.tasks(config.corpus.task_bytes))
    tokenizer = config.tokenizer
    trained = f"{tokenizer.vocab_size:,} pieces, trained on at most {tokenizer.sample_bytes:,} bytes of the corpus"
    given = f"{tokenizer.path or folder.tokenizer}, {inputs.codec.vocab_size:,} pieces" if inputs.codec else trained
    return [
        ("files", f"{len(inputs.all_files):,}"),
        ("bytes", f"{sum(file.size for file in inputs.all_files):,}"),
        *_corpora_told(config, inputs),
        *_filters_told(config),
        ("tasks", f"{tasks:,} of about {config.corpus.task_bytes:,} bytes"),
        ("tokenizer", given),
        ("blocks", f"{config.data.block_tokens:,} tokens each, {config.data.shard_blocks:,} to a shard"),
        ("Ray", config.ray.address),
        ("writes", f"revision {inputs.revision} of {folder.data}, and {folder.tokenizer.parent}"),
    ]


def find_done(config: RunConfig, folder: RunFolder) -> Done | None:
    """The finished data set; None where there is none. UserError where it is of another config or corpus."""
    if not folder.manifest.exists():
        return None
    return check_done(config, folder, lambda: find_inputs(config, folder))


def _folder(config: RunConfig) -> RunFolder:
    folder = RunFolder.of(config)
    return RunFolder(folder.path.absolute(), folder.store)


def _elsewhere(config: RunConfig, folder: RunFolder) -> bool:
    """Whether data.path names another run's data set; UserError where that is not finished."""
    if config.data.path is None:
        return False
    other = RunFolder.with_data(config)
    if other.kept == folder.kept or (isinstance(other.kept, Path) and other.kept.absolute() == folder.kept):
        return False
    if not other.manifest.exists():
        raise UserError(
            f"data.path {config.data.path} holds no finished data set ({other.manifest} is missing). "
            "Preprocess that run first, or leave data.path out to make this run's own."
        )
    get_logger().info(f"nothing to do: data.path says to use the data set of {other.kept}")
    return True


def _told(folder: RunFolder, manifest: Manifest) -> str:
    trained = sum(split.tokens for name, split in manifest.splits.items() if name != VALIDATION)
    return f"nothing to do: {folder.data} is complete, {trained:,} training tokens"


def _corpora_told(config: RunConfig, inputs: Inputs) -> list[tuple[str, str]]:
    """A line a corpus of a mixture: what is read, and its weight; pretrain's plan has the epochs."""
    lines = []
    for name, source in config.corpus.corpora.items():
        files = inputs.files.get(name, [])
        size = sum(file.size for file in files)
        by = f"temperature {config.corpus.temperature:g}" if config.corpus.temperature else f"weight {source.weight:g}"
        lines.append((f"  corpus {name}", f"{len(files):,} files, {size:,} bytes, {by}"))
    return lines


def _filters_told(config: RunConfig) -> list[tuple[str, str]]:
    """What is mended, dropped and looked for."""
    corpus, copies = config.corpus, config.corpus.deduplicate
    lines = [("filters", ", ".join(Cleaner(corpus.clean).names) or "none")]
    for name, source in corpus.corpora.items():
        if source.clean is not None:
            lines.append((f"  filters of {name}", ", ".join(Cleaner(source.clean).names) or "none"))
    near = f"near, from similarity {copies.near.similarity:g}" if copies.near is not None else ""
    kinds = ["documents" if copies.documents else "", near, "paragraphs" if copies.paragraphs else ""]
    lines.append(("copies dropped", ", ".join(filter(None, kinds)) or "none"))
    if corpus.decontaminate.paths:
        lines.append(("evaluation files", f"{len(config_files(corpus.decontaminate)):,}"))
    return lines
