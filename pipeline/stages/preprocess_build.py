"""One making of the data set: the passes in order, their tasks spread over Ray, the manifest last."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import told_plainly, write_atomic, write_json
from pipeline.base.log import get_logger
from pipeline.base.progress import Progress
from pipeline.base.run_folder import RunFolder
from pipeline.base.workers import Workers
from pipeline.corpus.documents import SPLITS, TRAIN, VALIDATION, ReadReport
from pipeline.corpus.quarantine import check_bad_fraction, write_quarantine
from pipeline.corpus.sample import chosen_units, task_quota
from pipeline.shards.block import Piece, shard_count
from pipeline.shards.manifest import Manifest, SplitEntry, split_entry, write_manifest
from pipeline.stages.preprocess_done import write_inputs
from pipeline.stages.preprocess_inputs import Inputs
from pipeline.stages.preprocess_results import corpus_sha256, manifest_of, statistics
from pipeline.stages.preprocess_tasks import SampleOrder, TokenReport, shard_task, survey_task, tokenize_task
from pipeline.stages.preprocess_work import digest_of, open_work, remove_work
from pipeline.vocabulary.codec import Codec
from pipeline.vocabulary.reading import load_codec
from pipeline.vocabulary.train import train_tokenizer

MEGABYTE = 1_000_000
VISIBLE_SECONDS = 30.0
"""A network file system may show another host's files late."""
Report = TypeVar("Report", ReadReport, TokenReport)


class Build:
    """One making of the data set."""

    def __init__(self, config: RunConfig, folder: RunFolder, inputs: Inputs, workers: Workers) -> None:
        self.config, self.folder, self.inputs, self.workers = config, folder, inputs, workers
        self.tasks = inputs.tasks
        self.work = open_work(folder, inputs.files, config.corpus, (config.seed, config.tokenizer.sample_bytes))

    def run(self) -> Manifest:
        """All passes, in order; the manifest last."""
        codec = self.inputs.codec
        survey = None
        if codec is None:
            survey = self.survey()
            self.set_aside(survey)
            codec = self.train_or_take_up()
        reports = self.tokenize(codec)
        if survey is None:
            self.set_aside([report.read for report in reports])
        self.check_same(survey, reports)
        splits = {split: self.write_shards(split, codec, reports) for split in SPLITS}
        digests = [self.work.segment(codec.sha256, number) / "digests" for number in range(len(self.tasks))]
        self.publish(codec, reports)
        manifest = manifest_of(self.config, codec, corpus_sha256(digests), reports, splits)
        write_manifest(self.folder.manifest, manifest)
        remove_work(self.folder)
        return manifest

    def survey(self) -> list[ReadReport]:
        """Pass A: every record read once, the bad ones set aside, a sample kept for the tokenizer."""
        total = sum(task.weight for task in self.tasks)
        sample_bytes = self.config.tokenizer.sample_bytes
        arguments = (
            (
                number,
                task,
                self.config.corpus,
                SampleOrder(self.config.seed, task_quota(sample_bytes, task.weight, total), sample_bytes),
                self.work,
            )
            for number, task in enumerate(self.tasks)
        )
        return list(self._shown("reading", self.workers.map_ordered(survey_task, arguments), self.work.survey))

    def set_aside(self, reads: Sequence[ReadReport]) -> None:
        """Writes the quarantine file; UserError where too much is bad or nothing good: then only that file is left."""
        quarantine = self.folder.quarantine
        bad = [self.work.bad(number) for number in range(len(self.tasks))]
        write_quarantine(quarantine, self.tasks, reads, bad)
        try:
            check_bad_fraction(reads, self.config.corpus.max_bad_fraction, quarantine, self.config.corpus.paths)
        except UserError:
            remove_work(self.folder)
            raise
        set_aside = sum(read.bad for read in reads)
        if set_aside:
            get_logger().warning(f"{set_aside:,} records set aside: {quarantine}")

    def train_or_take_up(self) -> Codec:
        """The tokenizer trained on the sample, or the one that an interrupted run trained on the same."""
        settings = digest_of(self.config.tokenizer.model_dump(mode="json"))
        path = self.work.trained(settings)
        if not path.exists():
            samples = [self.work.sample(number) for number in range(len(self.tasks))]
            sentences = chosen_units(samples, self.config.tokenizer.sample_bytes)
            get_logger().info(f"training a tokenizer of {self.config.tokenizer.vocab_size:,} pieces ...")
            write_atomic(path, train_tokenizer(sentences, self.config.tokenizer, self.config.seed))
        return load_codec(path)

    def tokenize(self, codec: Codec) -> list[TokenReport]:
        """Pass B: every document's ids and a closing [SEP], in a segment for each task and split."""
        write_atomic(self.work.tokenizer(codec.sha256), codec.model)
        corpus = self.config.corpus
        arguments = ((number, task, corpus, codec.sha256, self.work) for number, task in enumerate(self.tasks))
        reports = self.workers.map_ordered(tokenize_task, arguments)
        return list(self._shown("tokenising", reports, lambda number: self.work.segment(codec.sha256, number)))

    def check_same(self, survey: Sequence[ReadReport] | None, reports: Sequence[TokenReport]) -> None:
        """UserError when the two readings differ, or when every document fell to the validation split."""
        for task, first, second in zip(self.tasks, survey or [], reports, strict=False):
            if first != second.read:
                raise UserError(
                    f"the corpus changed while it was read: {task.source} had {first.kept:,} documents, then "
                    f"{second.read.kept:,}. Start the same command again once nothing writes to it."
                )
        documents = {split: sum(report.splits[split].documents for report in reports) for split in SPLITS}
        fraction = self.config.corpus.validation_fraction
        if not documents[TRAIN]:
            raise UserError(
                f"all {documents[VALIDATION]:,} documents fell to the validation split, none is left to train on. "
                f"Lower corpus.validation_fraction (now {fraction:g}) or give more documents."
            )
        if not documents[VALIDATION] and fraction:
            get_logger().warning(
                f"the validation split is empty: none of {documents[TRAIN]:,} documents was drawn at "
                f"corpus.validation_fraction {fraction:g}. Raise it to evaluate while training."
            )

    def write_shards(self, split: str, codec: Codec, reports: Sequence[TokenReport]) -> SplitEntry:
        """Pass C: the split's shards, each from its token range of the global stream."""
        path = self.work.shards(split)
        with told_plainly(path):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        parts = [report.splits[split] for report in reports]
        pieces = [Piece(part.tokens, part.documents, task.source) for task, part in zip(self.tasks, parts, strict=True)]
        sizes = (sum(part.tokens for part in parts), self.config.data.block_tokens, self.config.data.shard_blocks)
        shards = shard_count(*sizes)
        arguments = ((path, shard, pieces, sizes, codec.sha256, self.work) for shard in range(shards))
        entries = []
        with Progress(shards, "shards", f"writing {split}") as progress:
            for entry in self.workers.map_ordered(shard_task, arguments):
                entries.append(entry)
                progress.advance(1)
        return split_entry(entries)

    def publish(self, codec: Codec, reports: Sequence[TokenReport]) -> None:
        """Puts the finished shards, the tokenizer and the figures in their places."""
        for split in SPLITS:
            place = self.folder.data / split
            with told_plainly(place):
                shutil.rmtree(place, ignore_errors=True)
                os.replace(self.work.shards(split), place)
        place = self.folder.path / "tokenizer" / codec.file_name
        if self.folder.tokenizer != place:
            self.folder.tokenizer.unlink(missing_ok=True)  # of an earlier data set
        write_atomic(place, codec.model)
        write_json(self.folder.statistics, statistics(self.inputs.files, self.tasks, reports))
        write_inputs(self.folder, self.inputs.files)

    def _shown(self, label: str, reports: Iterator[Report], mark: Callable[[int], Path]) -> Iterator[Report]:
        """Passes the tasks' reports on and shows megabytes and documents so far."""
        weight = documents = shown = 0
        total = -(-sum(task.weight for task in self.tasks) // MEGABYTE)
        with Progress(total, "MB", label) as progress:
            for number, (task, report) in enumerate(zip(self.tasks, reports, strict=True)):
                _check_visible(mark(number))
                read = report if isinstance(report, ReadReport) else report.read
                weight += task.weight
                documents += read.kept
                megabytes = -(-weight // MEGABYTE)
                progress.advance(megabytes - shown, documents=f"{documents:,}")
                shown = megabytes
                yield report


def _check_visible(path: Path) -> None:
    """UserError when what a worker wrote does not show up here."""
    patience = time.monotonic() + VISIBLE_SECONDS
    while not path.exists():
        if time.monotonic() > patience:
            raise UserError(
                f"a worker wrote {path}, but it is not to be seen on this host. "
                "run_dir must lie on a file system that all hosts of the Ray cluster share, under the same path."
            )
        time.sleep(0.2)
