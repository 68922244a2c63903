"""Corpus to tokenizer and shards: survey (read, check, sample), train the tokenizer, tokenise, write shards, manifest.

The shards depend on the input, the seed and the config alone, not on the workers: tasks are planned from sizes, results
are taken in input order, and a shard is a token range of one global stream. Price: without tokenizer.path the corpus is
read twice; the tokens lie on the disk twice until the manifest is written.
"""

import time
from pathlib import Path

from pipeline.base.config import RunConfig, dump_config
from pipeline.base.files import lock_folder, write_atomic
from pipeline.base.log import setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import start_run
from pipeline.base.workers import connected
from pipeline.stages.preprocess_build import Build
from pipeline.stages.preprocess_inputs import is_done, read_inputs
from pipeline.stages.preprocess_results import report_done


def run(config: RunConfig) -> None:
    """Makes run_dir/data and run_dir/tokenizer, or says that they are there already."""
    setup_logging(None)
    folder = RunFolder(Path(config.run_dir).absolute())
    if is_done(config, folder):
        return
    inputs = read_inputs(config, folder)
    with connected(config.ray) as workers, lock_folder(folder.path):
        setup_logging(folder)
        write_atomic(folder.config, dump_config(config))
        with start_run(config, "preprocess", folder, parents={}) as tracker:
            began = time.monotonic()
            manifest = Build(config, folder, inputs, workers).run()
            report_done(manifest, folder, inputs.files, tracker, time.monotonic() - began)


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """What a run would read and write; checks the inputs, starts nothing, writes nothing."""
    setup_logging(None)
    folder = RunFolder(Path(config.run_dir).absolute())
    if is_done(config, folder):
        return [("already done", str(RunFolder(Path(config.data.path or config.run_dir).absolute()).manifest))]
    inputs = read_inputs(config, folder)
    tokenizer = config.tokenizer
    trained = f"{tokenizer.vocab_size:,} pieces, trained on at most {tokenizer.sample_bytes:,} bytes of the corpus"
    return [
        ("files", f"{len(inputs.files):,}"),
        ("bytes", f"{sum(file.size for file in inputs.files):,}"),
        ("tasks", f"{len(inputs.tasks):,} of about {config.corpus.task_bytes:,} bytes"),
        ("tokenizer", f"{tokenizer.path}, {inputs.codec.vocab_size:,} pieces" if inputs.codec else trained),
        ("blocks", f"{config.data.block_tokens:,} tokens each, {config.data.shard_blocks:,} to a shard"),
        ("Ray", config.ray.address),
        ("writes", f"{folder.data} and {folder.tokenizer}"),
    ]
