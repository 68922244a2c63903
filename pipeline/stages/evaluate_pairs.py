"""Stage evaluate on pairs of texts: which of the two do discriminator and generator prefer, by phenomenon.

run_dir/evaluation-pairs.json holds figures by set and network; a set that the same weights and tokenizer have scored is
not scored again. run_dir/evaluation-pairs/SET.jsonl has both scores of each pair. Other folders than this run's export
stand there under a name with their weights' digest, so that none takes another's place.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import write_json
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import Tracker, start_run
from pipeline.probing.figures import Scored, metrics_of, summarise, table
from pipeline.probing.known import Facts, Summary, of_networks, read_known, summary_of, united, with_others
from pipeline.probing.networks import KINDS, Folder, open_folder
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
    folder, sets = RunFolder(Path(config.run_dir)), _read_sets(config)
    networks, facts = _labelled(_find_networks(config), folder)
    result = folder.path / RESULT
    all_facts, known = read_known(result, facts)
    left = {label: [one for one in sets if not _is_done(folder, one, known, label)] for label in networks}
    encoded = {label: encode_sets(network, left[label]) for label, network in networks.items()}
    names = {one.name for ones in left.values() for one in ones}
    wanted = [one for one in sets if one.name in names]
    device = prepare_device(config)
    setup_logging(folder if wanted else None)
    _say_what_is_missing(networks)
    if wanted:
        with start_run(config, "evaluate-pairs", folder, _parents(folder, facts)) as tracker:
            scored = {n: score_sets(networks[n], ones, encoded[n], device) for n, ones in left.items() if ones}
            known |= {one.name: _written(one, scored, folder, known) for one in wanted}
            write_json(result, {"networks": all_facts, "sets": known})
            _track(tracker, folder, wanted, {one.name: of_networks(known[one.name], facts) for one in wanted})
    for one in sets:
        get_logger().info(table(one.name, of_networks(known[one.name], facts)))
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


def _labelled(networks: list[Folder], folder: RunFolder) -> tuple[dict[str, Folder], dict[str, Facts]]:
    """Networks and their facts by name: the kind for this run's own export, with a piece of its digest for others."""
    labelled: dict[str, Folder] = {}
    facts: dict[str, Facts] = {}
    for network in networks:
        own, found = network.path.resolve() == (folder.export / network.kind).resolve(), _facts(network)
        label = network.kind if own else f"{network.kind}-{found['weights'][:8]}"
        labelled[label], facts[label] = network, found
    return labelled, facts


def _facts(folder: Folder) -> Facts:
    name = (folder.config.architectures or ["?"])[0]
    digests = {"weights": folder.digest(), "tokenizer": folder.tokenizer_digest()}
    return {"path": str(folder.path), "class": name} | digests


def _is_done(folder: RunFolder, one: PairSet, known: Mapping[str, Summary], label: str) -> bool:
    return label in summary_of(one, known).get("overall", {}) and _predictions(folder, one.name).is_file()


def _predictions(folder: RunFolder, name: str) -> Path:
    plain = re.sub(r"[/\\]+", "_", name).lstrip("_.") or "_"
    return folder.path / PREDICTIONS / f"{plain}.jsonl"


def _written(
    one: PairSet, scored: Mapping[str, Mapping[str, list[Scored]]], folder: RunFolder, known: Mapping[str, Summary]
) -> Summary:
    """The summary of a set, the scores of whose pairs are written; what other networks made of it stays in both."""
    by_network = {label: ones[one.name] for label, ones in scored.items() if one.name in ones}
    before, path = summary_of(one, known), _predictions(folder, one.name)
    others = before.get("overall", {}).keys() - by_network.keys()
    write_predictions(path, with_others(prediction_rows(one, by_network), path, others))
    return united(before, summarise(one, by_network))


def _say_what_is_missing(networks: Mapping[str, Folder]) -> None:
    for label, network in networks.items():
        get_logger().info(f"{label}: {network.describe()}")
    for kind in KINDS:
        if kind not in {network.kind for network in networks.values()}:
            get_logger().info(f"{kind}: none in this run's export, so it is left out (set evaluate.{kind} to have one)")


def _parents(folder: RunFolder, facts: Mapping[str, Facts]) -> dict[str, str]:
    """Runs and digests that the scores come from."""
    return run_tags(folder) | {f"{label}_sha256": fact["weights"] for label, fact in facts.items()}


def _track(tracker: Tracker, folder: RunFolder, sets: list[PairSet], summaries: Mapping[str, Summary]) -> None:
    for one in sets:
        tracker.metrics(0, metrics_of(one.name, summaries[one.name]))
        tracker.artifact(_predictions(folder, one.name))
    tracker.artifact(folder.path / RESULT)
