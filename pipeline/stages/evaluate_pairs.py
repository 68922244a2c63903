"""Stage evaluate on pairs of texts: which of the two do discriminator and generator prefer, by phenomenon.

run_dir/evaluation-pairs.json holds all sets scored by the same weights; a set scored already is not scored again.
run_dir/evaluation-pairs/SET.jsonl has both scores of each pair.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, write_json
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import Tracker, start_run
from pipeline.probing.figures import Scored, metrics_of, summarise, table
from pipeline.probing.networks import KINDS, Folder, Kind, open_folder
from pipeline.probing.pairs import PairSet, read_files
from pipeline.probing.probes import make_probes
from pipeline.probing.score_sets import encode_sets, prediction_rows, score_sets
from pipeline.release.refresh import refresh_cards
from pipeline.tasks.job import prepare_device
from pipeline.tasks.origin import run_tags
from pipeline.tasks.results import write_predictions

RESULT = "evaluation-pairs.json"
PREDICTIONS = "evaluation-pairs"


def run(config: RunConfig) -> None:
    """Scores the sets, prints a table each, writes figures and scores. Raises UserError."""
    folder, sets, networks = RunFolder(Path(config.run_dir)), _read_sets(config), _find_networks(config)
    result = folder.path / RESULT
    facts: dict[str, dict[str, str]] = {one.kind: _facts(one) for one in networks}
    known = _known_sets(result, facts)
    wanted = [one for one in sets if not _is_done(folder, one, known)]
    encoded = {network.kind: encode_sets(network, wanted) for network in networks}
    device = prepare_device(config)
    setup_logging(folder if wanted else None)
    _say_what_is_missing(networks)
    if wanted:
        with start_run(config, "evaluate-pairs", folder, _parents(folder, networks)) as tracker:
            scored = {one.kind: score_sets(one, wanted, encoded[one.kind], device) for one in networks}
            known |= {one.name: _written(one, scored, folder) for one in wanted}
            write_json(result, {"networks": facts, "sets": known})
            _track(tracker, folder, wanted, known)
    for one in sets:
        get_logger().info(table(one.name, known[one.name]))
    refresh_cards(folder)
    get_logger().info(f"{'written' if wanted else 'scored already'}: {result}")


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """Checks folders and files; what would be scored."""
    sets, networks = _read_sets(config), _find_networks(config)
    rows = [(one.name, f"{len(one.pairs):,} pairs, {len(one.phenomena):,} phenomena ({one.source})") for one in sets]
    for folder in networks:
        own = encode_sets(folder, sets).own
        tokens = sum(map(sum, own.values()))
        work = f"{len(own):,} texts" + (f", {tokens:,} forward passes" if folder.kind == "generator" else "")
        rows.append((folder.kind, f"{folder.describe()}: {work}"))
    return [*rows, ("result", str(Path(config.run_dir) / RESULT))]


def _read_sets(config: RunConfig) -> list[PairSet]:
    sets = make_probes(config.evaluate.probes) + read_files([Path(path) for path in config.evaluate.minimal_pairs])
    names = [one.name for one in sets]
    for one in sets:
        if names.count(one.name) > 1:
            raise UserError(f"{one.source} has the name of the built-in probe {one.name}. Rename the file.")
    return sets


def _find_networks(config: RunConfig) -> list[Folder]:
    """Discriminator and generator, or the one there is. UserError where a folder that was named is not there."""
    networks = []
    for kind in KINDS:
        named = getattr(config.evaluate, kind)
        path = Path(named) if named else RunFolder(Path(config.run_dir)).export / kind
        if named or path.is_dir():
            networks.append(open_folder(path, kind))
    if not networks:
        raise UserError(
            f"{RunFolder(Path(config.run_dir)).export} has no network. Run pipeline/export.py first, or set "
            "evaluate.discriminator or evaluate.generator to a Hugging Face folder."
        )
    return networks


def _facts(folder: Folder) -> dict[str, str]:
    return {"path": str(folder.path), "class": (folder.config.architectures or ["?"])[0], "weights": folder.digest()}


def _known_sets(result: Path, facts: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Sets scored by the same weights before; none where the file is of others, or damaged."""
    try:
        before = read_json(result)
        same = {k: v["weights"] for k, v in before["networks"].items()} == {k: v["weights"] for k, v in facts.items()}
        return dict(before["sets"]) if same else {}
    except (UserError, KeyError, TypeError, AttributeError, ValueError):
        return {}


def _is_done(folder: RunFolder, one: PairSet, known: dict[str, Any]) -> bool:
    done = known.get(one.name)
    return isinstance(done, dict) and done.get("sha256") == one.sha256 and _predictions(folder, one.name).is_file()


def _predictions(folder: RunFolder, name: str) -> Path:
    plain = re.sub(r"[/\\]+", "_", name).lstrip("_.") or "_"
    return folder.path / PREDICTIONS / f"{plain}.jsonl"


def _written(one: PairSet, scored: Mapping[Kind, Mapping[str, list[Scored]]], folder: RunFolder) -> dict[str, Any]:
    """The summary of a set, the scores of whose pairs are written."""
    by_network: dict[str, list[Scored]] = {kind: ones[one.name] for kind, ones in scored.items()}
    write_predictions(_predictions(folder, one.name), prediction_rows(one, by_network))
    return summarise(one, by_network)


def _say_what_is_missing(networks: list[Folder]) -> None:
    for network in networks:
        get_logger().info(f"{network.kind}: {network.describe()}")
    for kind in KINDS:
        if kind not in {network.kind for network in networks}:
            get_logger().info(f"{kind}: none in this run's export, so it is left out (set evaluate.{kind} to have one)")


def _parents(folder: RunFolder, networks: list[Folder]) -> dict[str, str]:
    """Runs and digests that the scores come from."""
    return run_tags(folder) | {f"{network.kind}_sha256": network.digest() for network in networks}


def _track(tracker: Tracker, folder: RunFolder, sets: list[PairSet], known: dict[str, Any]) -> None:
    for one in sets:
        tracker.metrics(0, metrics_of(one.name, known[one.name]))
        tracker.artifact(_predictions(folder, one.name))
    tracker.artifact(folder.path / RESULT)
