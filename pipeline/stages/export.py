"""Export: a checkpoint to Hugging Face folders, one a network, that stock transformers loads to our own logits.

run_dir/export/ is replaced as a whole, once every folder in it has been loaded and compared; export.json in it says
what it was made from. The same checkpoint again is a no-op as long as no file has changed.
"""

from pathlib import Path
from typing import Any

from model.objectives.base import Objective
from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import complete_folder, read_json, sha256_file, write_json
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import Tracker, start_run
from pipeline.release.check import TOLERANCE, largest_difference
from pipeline.release.facts import Facts, gather_facts
from pipeline.release.folder import write_folder
from pipeline.release.refresh import MARK, refresh_cards
from pipeline.stream.cache import open_cache
from pipeline.training.checkpoint import WEIGHTS, find_checkpoint
from pipeline.training.restore import load_objective


def run(config: RunConfig) -> None:
    """Writes run_dir/export. Raises UserError for a missing or broken checkpoint."""
    folder, facts = _find(config)
    if _is_done(folder.export, facts):
        setup_logging(None)
        refresh_cards(folder)
        return get_logger().info(f"export: done already, from {facts.checkpoint.name}: {folder.export}")
    objective = load_objective(facts.checkpoint)
    setup_logging(folder)
    with start_run(config, "export", folder, facts.tags()) as tracker:
        with complete_folder(folder.export) as aside:
            for name, network in objective.networks().items():
                _export(aside / name, name, network, facts, tracker)
            seen = {"tokens_seen": facts.state.tokens}
            write_json(aside / MARK, {**facts.tags(), **seen, "files": _digests(aside)})
            refresh_cards(folder, aside)
        for name in objective.networks():
            tracker.artifact(folder.export / name / "README.md")
    get_logger().info(f"export: {facts.checkpoint.name} is in {' and '.join(_places(folder, objective))}")


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """Checks the checkpoint; what would be written."""
    folder, facts = _find(config)
    if _is_done(folder.export, facts):
        return [("already done", str(folder.export))]
    objective = load_objective(facts.checkpoint)
    return [
        ("checkpoint", f"{facts.checkpoint} (step {facts.state.step:,}, {facts.state.tokens:,} tokens seen)"),
        ("objective", f"{facts.config.objective.name}, body {facts.config.model.body}"),
        ("tokenizer", f"{facts.vocab_size:,} pieces, sha256 {facts.tokenizer_sha256[:16]}"),
        ("parameters", f"{sum(parameter.numel() for parameter in objective.parameters()):,} (shared ones once)"),
        ("writes", ", ".join(_places(folder, objective))),
    ]


def _find(config: RunConfig) -> tuple[RunFolder, Facts]:
    folder, cache = RunFolder.of(config), open_cache(config.data)
    return folder, gather_facts(find_checkpoint(folder, config.export.checkpoint, cache, (WEIGHTS,)))


def _export(path: Path, name: str, network: Any, facts: Facts, tracker: Tracker) -> None:
    """One folder, loaded again and compared."""
    path.mkdir()
    class_name = write_folder(path, name, network, facts)
    difference = largest_difference(path, network, facts.config.data.sequence_length)
    if not difference <= TOLERANCE:
        raise RuntimeError(f"{name}: {class_name} gives other logits than ours, by {difference:.2g} of the largest")
    tracker.metrics(facts.state.step, {f"export/{name}/logits_difference": difference})
    get_logger().info(f"export: {name} loads as {class_name}; its logits differ from ours by {difference:.1e} at most")


def _places(folder: RunFolder, objective: Objective) -> list[str]:
    return [str(folder.export / name) for name in objective.networks()]


def _is_done(path: Path, facts: Facts) -> bool:
    """Whether the export was made from this checkpoint and is whole, with cards that can be refreshed."""
    try:
        mark = read_json(path / MARK)
        same = mark["checkpoint_sha256"] == facts.sha256 and mark["tokens_seen"] == facts.state.tokens
        return bool(same and mark["files"] == _digests(path))
    except (UserError, KeyError, TypeError):
        return False


def _digests(path: Path) -> dict[str, str]:
    """sha256 of every file below `path` but the mark."""
    files = (file for file in sorted(path.rglob("*")) if file.is_file() and file.name != MARK)
    return {str(file.relative_to(path)): sha256_file(file) for file in files}
