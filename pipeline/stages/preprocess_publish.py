"""Puts a finished making in its place: tokenizer, statistics, report, what was read, and the manifests, last of all.

Until data/manifest.json is replaced, the older revision is the data set; the new one's files are all beside it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import is_aside, is_remote, read_json, remove_tree, write_atomic, write_json
from pipeline.base.lease import check_lease
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.corpus.files import InputFile
from pipeline.corpus.quarantine import cut_quarantine
from pipeline.reporting.page import render
from pipeline.shards.block import token_dtype
from pipeline.shards.manifest import CorpusEntry, Manifest, SplitEntry, TokenizerEntry, all_shards, write_manifest
from pipeline.stages.preprocess_changes import digests_read
from pipeline.stages.preprocess_done import filter_files, inputs_path, left_behind, write_inputs
from pipeline.stages.preprocess_inputs import Inputs
from pipeline.stages.preprocess_open import work_path
from pipeline.stages.preprocess_results import corpus_sha256, statistics
from pipeline.stages.preprocess_tasks import frequency_stride, wants
from pipeline.stages.preprocess_totals import Totals
from pipeline.stages.preprocess_work import Pass, Work
from pipeline.stream.corpora import NO_MIXTURE, corpora_of, find_shares
from pipeline.vocabulary.codec import Codec


def publish(
    config: RunConfig,
    folder: RunFolder,
    inputs: Inputs,
    work: Work,
    tokens: Pass,
    codec: Codec,
    totals: Totals,
    splits: dict[str, SplitEntry],
) -> Manifest:
    """Writes everything but the shards, which are there, and removes the scratch folder."""
    work.check()
    check_lease(folder.store)
    before, numbers = inputs.before, range(len(work.tasks))
    digests = (tokens.folder(number) / "digests" for number in numbers)
    manifest = Manifest(
        version=inputs.revision,
        block_tokens=config.data.block_tokens,
        dtype=token_dtype(codec.vocab_size).name,
        tokenizer=TokenizerEntry(sha256=codec.sha256, vocab_size=codec.vocab_size),
        corpus=CorpusEntry(
            sha256=corpus_sha256(digests, before.corpus.sha256 if before is not None else None),
            documents=sum(split.documents for split in splits.values()),
            quarantined=totals.sums["quarantine_lines"],
        ),
        splits=splits,
        config=config.written(),
    )
    if before is None:
        place = folder.kept / "tokenizer" / codec.file_name
        if folder.tokenizer != place and folder.tokenizer.is_file():
            folder.tokenizer.unlink()  # of an earlier data set
        write_atomic(place, codec.model)
    facts = statistics(totals, codec, _frequencies(tokens, numbers, codec), corpus_shares(config, folder, manifest))
    write_json(work.path / folder.statistics.name, facts)
    write_atomic(work.path / folder.report.name, render(facts, f"Data report {manifest.corpus.sha256[:12]}"))
    read_pass = work.read if wants(config, inputs.revision).any else tokens
    older = read_json(inputs_path(folder, before.version))["files"] if before is not None else []
    write_inputs(folder, inputs.revision, _files_read(work, read_pass, inputs), totals, filter_files(config), older)
    check_lease(folder.store)
    write_manifest(folder.data / "manifests" / f"{manifest.version:06d}.json", manifest)
    write_manifest(folder.manifest, manifest)
    clear_work(folder, manifest)
    return manifest


def clear_work(folder: RunFolder, manifest: Manifest) -> None:
    """Removes the scratch folder, files among the shards that no revision names, and what kills left half-written.

    Of a version that was made and killed before this, its figures are put in their places; of a later one that was
    given up, what it has left beside the shards is taken back.
    """
    work = work_path(folder)
    if left_over(folder, manifest):
        for place in (folder.statistics, folder.report):
            if (work / place.name).exists():
                write_atomic(place, (work / place.name).read_bytes())
    elif left_behind(folder, manifest):
        cut_quarantine(folder.quarantine, manifest.corpus.quarantined)
        for path in sorted((folder.data / "manifests").iterdir()):
            if int(path.name.partition(".")[0]) > manifest.version:
                path.unlink()
    named = {entry.name for entry in all_shards(manifest)}
    for number in range(1, manifest.version):
        older = folder.data / "manifests" / f"{number:06d}.json"
        if older.is_file():
            named |= {entry.name for entry in all_shards(Manifest.model_validate(read_json(older)))}
    for split in manifest.splits:
        place = folder.data / split
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.suffix == ".tar" and f"{split}/{path.name}" not in named:
                path.unlink()
    for place in (folder.data, folder.kept / "tokenizer"):
        if not is_remote(place):  # in a store nothing is there before it is whole
            _clear_asides(place)
    remove_tree(folder.data / ".work")


def left_over(folder: RunFolder, manifest: Manifest) -> bool:
    """Whether the scratch folder is that of the manifest's own making, killed before it was removed."""
    job = work_path(folder) / "job.json"
    return job.exists() and int(read_json(job)["revision"]) <= manifest.version


def _clear_asides(folder: Path) -> None:
    for above, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != ".work"]
        for name in filter(is_aside, [*folders, *files]):
            path = Path(above) / name
            path.unlink() if name in files else remove_tree(path)


def corpus_shares(config: RunConfig, folder: RunFolder, manifest: Manifest) -> list[dict[str, Any]]:
    """{"name", "documents", "tokens", "weight", "share"} of each corpus of a mixture; [] where there is none."""
    try:
        shares = find_shares(manifest, folder.data, config.corpus)
    except UserError as error:  # weights may still be changed
        get_logger().warning(f"this mixture cannot be trained on as it is: {error}")
        shares = NO_MIXTURE
    return [
        {
            "name": name,
            "documents": entry.documents,
            "tokens": entry.tokens,
            "weight": config.corpus.corpora[name].weight,
            "share": shares.fraction(name) if name in shares.places else None,
        }
        for name, entry in corpora_of(manifest).items()
        if name in config.corpus.corpora
    ]


def _frequencies(tokens: Pass, numbers: range, codec: Codec) -> np.ndarray[Any, Any]:
    total = np.zeros(codec.vocab_size, np.int64)
    for number in numbers[:: frequency_stride(len(numbers))]:
        with (tokens.folder(number) / "frequencies.npy").open("rb") as file:
            total += np.load(file, allow_pickle=False)
    return total


def _files_read(work: Work, read_pass: Pass, inputs: Inputs) -> Iterator[tuple[str, InputFile, list[list[Any]]]]:
    """Every input file, empty ones too, with the digests of the parts that tasks have read."""
    parts = digests_read(work, [read_pass])
    for corpus, files in inputs.files.items():
        for file in files:
            yield corpus, file, parts.get((corpus, file.path), [])
