"""The first weights of a run that starts from others' (init.*): filled in, counted, told, and noted in init.json.

Done once, before step 0: a run with a checkpoint of its own never comes here. Every rank does the same from the same
files. What no source gives keeps the values that it has in a run from nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model.hf import own_form, views_of
from model.objectives.base import Objective
from model.warm import POSITIONS, Filled, fill, position_rows
from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, sha256_file
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder, tokenizer_file
from pipeline.base.storage import is_url
from pipeline.stream.cache import open_cache
from pipeline.training.checkpoint import load_weights, read_checkpoint_config, read_vocab_size
from pipeline.training.continued import folders, source_checkpoint
from pipeline.training.hf_folder import HuggingFaceFolder
from pipeline.training.origin import Origin
from pipeline.training.precision import make_objective
from pipeline.vocabulary.matching import Vocabulary, file_vocabulary, folder_vocabulary, match_rows, vocabulary_of
from pipeline.vocabulary.reading import given_file, is_hugging_face, load_codec

Report = dict[str, Any]
HEADS = (
    "discriminator_predictions.",
    "generator_predictions.",
    "generator_lm_head.",
    "head.",
    "classifier.",
    "decoder.",
)
"""Names that a folder may lack: heads, which an encoder alone does not have."""


def is_continued(config: RunConfig) -> bool:
    """Whether the run starts from given weights."""
    return any((config.init.discriminator, config.init.generator, config.init.checkpoint))


def initial_objective(config: RunConfig, origin: Origin) -> tuple[Objective, Report]:
    """The objective with its first weights, and what they are. config: resolved by continued.resolve_init.

    Raises UserError for a source that cannot be read or does not fit.
    """
    objective = make_objective(config, origin.vocab_size)
    sources: dict[str, Report] = {}
    if config.init.checkpoint is not None:
        sources["checkpoint"] = _from_checkpoint(config, origin, objective)
    else:
        sources = _from_folders(config, origin, objective)
    trained = max(report["trained_positions"] for report in sources.values())
    return objective, {"trained_positions": trained, "sources": sources}


def told(report: Report) -> list[tuple[str, str]]:
    """What the report says, as label and value, a line each."""
    lines = []
    for name, source in report["sources"].items():
        lines.append((f"init.{name}", "; ".join([source["from"], *source["notes"]])))
    return lines


def announce(report: Report) -> None:
    """The same to the log."""
    for label, value in told(report):
        get_logger().info(f"{label}: {value}")


def _from_checkpoint(config: RunConfig, origin: Origin, objective: Objective) -> Report:
    path = source_checkpoint(config)
    before = read_checkpoint_config(path)
    trained = before.data.sequence_length
    noted = RunFolder(path).init  # the checkpoint's copy
    if noted.is_file():  # that run itself came from elsewhere
        trained = max(trained, int(read_json(noted).get("trained_positions", 0)))
    manifest = read_json(path / "manifest.json")
    rows = None
    if manifest.get("tokenizer_sha256") != origin.manifest.tokenizer.sha256:
        theirs, ours = load_codec(tokenizer_file(path)), load_codec(origin.tokenizer_file)
        rows = match_rows(vocabulary_of(ours), vocabulary_of(theirs))
    state = load_weights(path)
    views = dict(objective.named_parameters())
    places = _places(config, before.model.max_positions, trained)
    filled = _fill(views, state, rows, places, f"init.checkpoint {path}")
    if filled.missing or filled.unused:
        raise UserError(f"init.checkpoint: {path} is of another model: {[*filled.missing, *filled.unused][0]}.")
    notes = [
        f"step {manifest.get('step', 0):,} of that run",
        _rows_told(rows, read_vocab_size(path), origin.vocab_size),
        *_positions_told(views, places, before.model.max_positions),
    ]
    digest = sha256_file(path / "manifest.json")
    open_cache(config.data).release_at(path)
    given = config.init.checkpoint or ""
    return {
        "from": f"{given} ({path.name})" if is_url(given) else str(path),
        "sha256": digest,
        "trained_positions": min(trained, before.model.max_positions),
        "notes": notes,
    }


def _from_folders(config: RunConfig, origin: Origin, objective: Objective) -> dict[str, Report]:
    """Fills the generator first: the embeddings that both share are then the discriminator's, where it has a folder."""
    found, networks = folders(config), objective.networks()
    ours = vocabulary_of(load_codec(origin.tokenizer_file))
    reports, tables = {}, {}
    for name in sorted(found, reverse=True):
        reports[name] = _from_folder(config, found[name], networks[name], ours)
        tables[name] = [parameter.clone() for parameter in _embeddings(networks[name])]
    if len(found) == 2 and not all(map(torch.equal, tables["generator"], tables["discriminator"])):
        reports["generator"]["notes"].append(
            "its embeddings differ from the discriminator's: the discriminator's are taken, for both share them"
        )
    for name in networks.keys() - found.keys():
        other = next(iter(reports.values()))
        other["notes"].append(f"there is no {name} to start from: drawn at random, with these embeddings")
    return reports


def _from_folder(config: RunConfig, folder: HuggingFaceFolder, network: nn.Module, ours: Vocabulary) -> Report:
    notes: list[str] = []
    rows = _folder_rows(config, folder, ours, notes)
    table = int(folder.sizes["max_positions"])
    trained = folder.trained_positions
    places = _places(config, table, trained)
    state, views = folder.tensors(), views_of(network)
    tied, words = state.get("generator_lm_head.weight"), state.get("electra.embeddings.word_embeddings.weight")
    if tied is not None and words is not None and not torch.equal(tied, words):
        notes.append("its output matrix is not its word table: the table is taken for both")
    filled = _fill(views, own_form(network, state), rows, places, str(folder.path))
    lacking = [name for name in filled.missing if not name.startswith(HEADS)]
    if lacking:
        raise UserError(
            f"{folder.path}: {len(lacking)} of the encoder's {len(views)} tensors are missing, such as {lacking[0]}."
        )
    notes.append(_rows_told(rows, folder.vocab_size, len(ours.pieces)))
    if filled.missing:
        notes.append(f"it has no head for this: {len(filled.missing)} tensors drawn at random")
    if filled.unused:
        notes.append(f"{len(filled.unused)} of its tensors have no place here, such as {filled.unused[0]}")
    notes += _positions_told(views, places, table)
    return {
        "from": f"{folder.path} ({folder.architecture or 'no class named'})",
        "sha256": folder.digest(),
        "trained_positions": trained,
        "rows_matched": sum(0 <= row < folder.vocab_size for row in rows),
        "rows": len(rows),
        "missing": filled.missing,
        "unused": filled.unused,
        "notes": notes,
    }


def _folder_rows(config: RunConfig, folder: HuggingFaceFolder, ours: Vocabulary, notes: list[str]) -> list[int]:
    """Row of the folder's vocabulary for each of our pieces."""
    theirs = folder_vocabulary(folder.path)
    if theirs is None and config.tokenizer.path is not None:
        file = given_file(config.tokenizer.path)
        if file.is_file() and is_hugging_face(file):
            given = file_vocabulary(file)
            if max(given.rows) < folder.vocab_size:
                notes.append(f"it has no tokenizer of its own: {file} is taken for it")
                theirs = given
    if theirs is not None:
        return match_rows(ours, theirs)
    if folder.vocab_size != len(ours.pieces):
        raise UserError(
            f"{folder.path} has neither tokenizer.json nor vocab.txt, and {folder.vocab_size:,} embedding rows where "
            f"the data has {len(ours.pieces):,} pieces: rows cannot be told apart. Put its tokenizer beside it."
        )
    notes.append("it has no tokenizer: its rows are taken in the order of the run's own pieces")
    return list(range(len(ours.pieces)))


def _fill(
    views: Mapping[str, Tensor], state: dict[str, Tensor], rows: Sequence[int] | None, places: list[int], source: str
) -> Filled:
    broken = sorted(name for name in views.keys() & state.keys() if not bool(state[name].isfinite().all()))
    if broken:
        raise UserError(
            f"{source}: {len(broken)} of its tensors hold NaN or infinities, such as {broken[0]}. Take an earlier "
            "checkpoint, or get the folder anew."
        )
    try:
        return fill(views, state, rows, places)
    except ValueError as error:
        raise UserError(f"{source}: the weights do not fit: {error}.") from None


def _places(config: RunConfig, table: int, trained: int) -> list[int]:
    return position_rows(table, trained, config.model.max_positions, config.data.sequence_length)


def _embeddings(network: nn.Module) -> list[Tensor]:
    return list(network.encoder.embeddings.parameters())  # type: ignore[union-attr]


def _rows_told(rows: Sequence[int] | None, theirs: int, ours: int) -> str:
    matched = ours if rows is None else sum(0 <= row < theirs for row in rows)
    rest = "" if matched == ours else ", the rest drawn at random"
    return f"{matched:,} of {ours:,} rows of the vocabulary matched{rest}"


def _positions_told(views: Mapping[str, Tensor], places: Sequence[int], table: int) -> list[str]:
    if not any(name.endswith(POSITIONS) for name in views):
        return []  # rotary positions have no table
    copied = sum(place != row for row, place in enumerate(places))
    notes = [f"{copied:,} of {len(places):,} positions are copies of the trained ones"] if copied else []
    return notes + ([f"{table - len(places):,} positions left out"] if table > len(places) else [])
