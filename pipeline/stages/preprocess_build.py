"""One making of the data set: the passes in order, their tasks spread over Ray, the manifest last."""

import itertools
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import write_atomic
from pipeline.base.log import get_logger
from pipeline.base.mapping import Failure
from pipeline.base.progress import Progress
from pipeline.base.run_folder import RunFolder
from pipeline.base.workers import Workers
from pipeline.cleaning.contamination_index import build_index, config_files, save_index
from pipeline.corpus.documents import SPLITS, TRAIN, VALIDATION, ReadReport, given_up
from pipeline.corpus.quarantine import BadCount, write_quarantine
from pipeline.corpus.sample import chosen_units
from pipeline.corpus.tasks import Task
from pipeline.duplicates.drops import read_drops
from pipeline.reporting.page import template
from pipeline.shards.block import token_dtype
from pipeline.shards.manifest import Manifest, ShardEntry, SplitEntry, check_sizes, split_entry
from pipeline.stages.preprocess_changes import check_unread_changes
from pipeline.stages.preprocess_duplicates import find_copies, keep_index, tell_examples
from pipeline.stages.preprocess_inputs import Inputs, corpus_paths
from pipeline.stages.preprocess_open import open_work, stopped_mark
from pipeline.stages.preprocess_publish import publish
from pipeline.stages.preprocess_shards import SplitPlan, grown, shard_task, write_plan
from pipeline.stages.preprocess_tasks import give_up_task, read_task, tokenize_task, wants
from pipeline.stages.preprocess_totals import Totals, reads_in_order
from pipeline.stages.preprocess_work import Pass, digest_of, nothing_missing
from pipeline.stages.task_log import TaskLog
from pipeline.vocabulary.codec import Codec
from pipeline.vocabulary.reading import load_codec
from pipeline.vocabulary.train import train_tokenizer

MEGABYTE = 1_000_000
VISIBLE_SECONDS = 30.0
"""A network file system may show another host's files late."""


class Build:
    """One making of the data set, or of its next revision.

    totals: those of the revision that is added to; new ones for the first.
    """

    def __init__(
        self, config: RunConfig, folder: RunFolder, inputs: Inputs, workers: Workers, totals: Totals | None = None
    ) -> None:
        self.config, self.folder, self.inputs, self.workers = config, folder, inputs, workers
        self.work = open_work(config, folder, inputs)
        self.needed = wants(config, inputs.revision)
        self.totals = totals or Totals(by_folder=False)
        self.kept_lines = self.totals.sums["quarantine_lines"]
        self.log = TaskLog(folder)
        self.failed: dict[int, str] = {}
        """Tasks that were read well and failed when they were tokenised, and why."""

    def run(self) -> Manifest:
        """All passes, in order; the manifest last."""
        with nothing_missing(self.work.path):
            return self._run()

    def _run(self) -> Manifest:
        work, needed = self.work, self.needed
        decontaminate = self.config.corpus.decontaminate
        if decontaminate.paths and not work.contamination.exists():
            save_index(build_index(decontaminate, config_files(decontaminate)), work.contamination)
        if needed.any:
            self.all_tasks("reading", work.read, read_task)
            self.set_aside(work.read)
        if needed.keys:
            self.totals.duplicates = find_copies(work, self.folder, self.workers, self.totals.duplicates)
        codec = self.inputs.codec or self.train_or_take_up()
        tokens = self.tokenize(codec)
        if needed.keys:
            tell_examples(work, tokens, self.totals.duplicates)
        if not needed.any:
            self.set_aside(tokens)
        tables = self.gather(tokens)
        if self.failed:
            self.set_aside(work.read, tokens)
        self.check_splits()
        Thread(target=template, daemon=True).start()  # while the workers write
        splits = {split: self.write_shards(split, kind, codec, rows) for (split, kind), rows in tables.items()}
        check_unread_changes(work, self.config, self.folder)
        if needed.keys:
            keep_index(work, self.folder, self.workers)
        return publish(self.config, self.folder, self.inputs, work, tokens, codec, self.totals, splits)

    def all_tasks(self, label: str, made: Pass, function: Callable[..., float], *extra: str) -> None:
        """One pass over all tasks; those that are finished already are left alone."""
        work, weights = self.work, self.work.tasks.weights
        done = made.finished()
        finished = np.zeros(len(weights), bool)
        finished[[number for number in done if number < len(weights)]] = True
        todo = np.flatnonzero(~finished)
        if done:
            get_logger().info(f"{label}: {len(done):,} of {len(weights):,} tasks are done already")
        weight = int(weights[finished].sum())
        total, shown = -(-int(weights.sum()) // MEGABYTE), weight // MEGABYTE
        arguments = ((str(work.path), work.id, int(number), *extra) for number in todo)
        with Progress(total, "MB", label, start=shown) as progress, self.log.of(made.name):
            for place, outcome in self.workers.map_unordered(function, arguments, plain=True, give_up=True):
                number = int(todo[place])
                if isinstance(outcome, Failure):
                    give_up_task(work, made, number, extra[0] if extra else None, outcome.reason)
                else:
                    self.log.write(number, outcome)
                _check_visible(made.mark(number))
                weight += int(weights[number])
                progress.advance(-(-weight // MEGABYTE) - shown)
                shown = -(-weight // MEGABYTE)

    def set_aside(self, made: Pass, after: Pass | None = None) -> None:
        """Writes the quarantine file; UserError where too much is bad or nothing good.

        after: the pass in which the tasks of `failed` have failed.
        """
        quarantine, count = self.folder.quarantine, BadCount()
        self.work.check()
        marks: list[Path] = []

        def counted() -> Iterator[Any]:
            for number, task, report, firsts in reads_in_order(self.work, made, self.failed):
                count.add(task, report)
                if report.aside:
                    marks.append((after if after is not None and number in self.failed else made).mark(number))
                yield number, task, report, firsts

        lines = write_quarantine(quarantine, counted(), lambda task: made.folder(task) / "bad", self.kept_lines)
        try:
            count.check(self.config.corpus.max_bad_fraction, quarantine, self.named(), first=self.inputs.before is None)
        except UserError:
            for mark in marks:  # tried again when the same command is started again
                mark.unlink(missing_ok=True)
            write_atomic(stopped_mark(self.work.path), "")
            raise
        self.totals.sums["quarantine_lines"] = lines
        if lines > self.kept_lines:
            get_logger().warning(f"{lines - self.kept_lines:,} records set aside: {quarantine}")

    def named(self) -> list[str]:
        """What is named as corpus, for messages."""
        return [path for paths in corpus_paths(self.config).values() for path in paths]

    def train_or_take_up(self) -> Codec:
        """The tokenizer trained on the sample, or the one that an interrupted run trained on the same."""
        work, settings = self.work, self.config.tokenizer
        path = work.trained(digest_of([settings.model_dump(mode="json"), self.config.seed]))
        if not path.exists():
            samples = [work.read.folder(number) / "sample" for number in range(len(work.tasks))]
            dropped = (lambda number: read_drops(work.duplicates, number).documents) if self.needed.keys else None
            sentences = chosen_units(samples, settings.sample_bytes, dropped)
            get_logger().info(f"training a tokenizer of {settings.vocab_size:,} pieces ...")
            model = train_tokenizer(sentences, settings, self.config.seed)
            work.check()
            write_atomic(path, model)
        return load_codec(path)

    def tokenize(self, codec: Codec) -> Pass:
        """Every document's ids and a closing [SEP], in a segment for each task and split."""
        tokens = self.work.tokens(codec.sha256)
        self.work.check()
        write_atomic(tokens.path / "tokenizer.model", codec.model)
        self.all_tasks("tokenising", tokens, tokenize_task, codec.sha256)
        return tokens

    def gather(self, tokens: Pass) -> dict[tuple[str, str], np.ndarray[Any, Any]]:
        """Adds the tasks' reports to the totals; (task, tokens, documents) of each task, by (split, its kind)."""
        corpora = self.config.corpus.corpora
        names = [f"{TRAIN}-{corpus}" for corpus in corpora] or [TRAIN]
        rows = {(name, TRAIN): array("q") for name in names} | {(VALIDATION, VALIDATION): array("q")}
        for file in self.inputs.all_files:
            self.totals.add_input(file.name, files=1, bytes=file.size)
            self.totals.sums.update(files=1, file_bytes=file.size)
        reports = tokens.reports(range(len(self.work.tasks)))
        if self.needed.any:
            reads = reads_in_order(self.work, self.work.read)
        else:  # one mark has both
            reports, same = itertools.tee(reports)
            reads = reads_in_order(self.work, tokens, reports=same)
        for (number, task, read, firsts), report in zip(reads, reports, strict=True):
            if self.needed.any and "read" in report:
                read = self.read_twice(number, task, read, report["read"])
            self.totals.add_read(task, read, firsts)
            self.totals.sums.update(tasks=1, words=report["words"], emptied=report.get("emptied", 0))
            for kind in SPLITS:
                split = f"{TRAIN}-{task.corpus}" if kind == TRAIN and task.corpus else kind
                found = report["splits"][kind]
                self.totals.add_split(split, found)
                rows[split, kind].extend((number, found["tokens"], found["documents"]))
        return {key: np.frombuffer(values, np.int64).reshape(-1, 3) for key, values in rows.items()}

    def read_twice(self, number: int, task: Task, first: ReadReport, second: dict[str, Any]) -> ReadReport:
        """What counts of a task's two readings. UserError where the corpus has changed in between."""
        if second["aside"]:
            self.failed[number] = second["aside"]
            return given_up(first, second["aside"])
        if first.digest != second["digest"]:
            raise UserError(
                f"the corpus changed while it was read: {task.source} is not what it was before. "
                "Start the same command with --fresh once nothing writes to it."
            )
        return first

    def check_splits(self) -> None:
        """UserError when every document of a corpus fell to the validation split."""
        documents = {split: found["documents"] for split, found in self.totals.splits.items()}
        fraction = self.config.corpus.validation_fraction
        for split, count in documents.items():
            if split == VALIDATION or count:
                continue
            if split != TRAIN:
                raise UserError(
                    f"no document of corpus {split.removeprefix(f'{TRAIN}-')} is left to train on: nothing valid was "
                    "read, or its filters dropped everything, or all of it fell to the validation split. Mend its "
                    "paths or filters, or leave it out, and start again with --fresh."
                )
            raise UserError(
                f"all {documents[VALIDATION]:,} documents fell to the validation split, none is left to train on. "
                f"Lower corpus.validation_fraction (now {fraction:g}) or give more documents."
            )
        if not documents[VALIDATION] and fraction:
            trained = sum(documents.values())
            get_logger().warning(
                f"the validation split is empty: none of {trained:,} documents was drawn at "
                f"corpus.validation_fraction {fraction:g}. Raise it to evaluate while training."
            )

    def is_there(self, made: Pass, shard: int) -> bool:
        """Whether a shard that is marked as finished still has its file."""
        entry = ShardEntry(**made.report(shard))
        try:
            check_sizes(self.folder.data, [entry])
        except UserError:
            return False
        return True

    def write_shards(self, split: str, kind: str, codec: Codec, rows: np.ndarray[Any, Any]) -> SplitEntry:
        """The split's shards, each from its token range of the stream; those of an older revision first."""
        before = self.inputs.before.splits.get(split) if self.inputs.before is not None else None
        data = self.config.data
        plan = SplitPlan(
            split=split,
            kind=kind,
            sha256=codec.sha256,
            tokens=int(rows[:, 1].sum()),
            block_tokens=data.block_tokens,
            shard_blocks=data.shard_blocks,
            dtype=token_dtype(codec.vocab_size).name,
            revision=self.inputs.revision,
        )
        if before is not None:
            if not plan.tokens:
                return before
            plan = grown(plan, before, self.folder.data)
        made, digest = write_plan(self.work, plan, rows)
        done = {shard for shard in made.finished() if self.is_there(made, shard)}
        todo = [shard for shard in plan.shards if shard not in done]
        arguments = ((str(self.work.path), self.work.id, split, digest, shard) for shard in todo)
        started = len(plan.shards) - len(todo)
        with Progress(len(plan.shards), "shards", f"writing {split}", start=started) as bar, self.log.of(made.name):
            for place, seconds in self.workers.map_unordered(shard_task, arguments, plain=True):
                self.log.write(todo[place], seconds)
                _check_visible(made.mark(todo[place]))
                bar.advance(1)
        older: Sequence[ShardEntry] = before.shards[: plan.first_shard] if before is not None else ()
        return split_entry([*older, *(ShardEntry(**report) for report in made.reports(plan.shards))])


def _check_visible(path: Path) -> None:
    """UserError when what a worker wrote does not show up here."""
    patience = time.monotonic() + VISIBLE_SECONDS
    while not path.exists():
        if time.monotonic() > patience:
            raise UserError(
                f"a worker wrote {path}, but it is not to be seen on this host. run_dir must lie on a file system "
                "that all hosts of the Ray cluster share, under the same path; or set store to a URL."
            )
        time.sleep(0.2)
