"""Starting from given weights: the folder's own logits at step 0, and everything that a folder may lack."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ElectraModel

from model.hf import to_hf
from model.objectives.base import Objective
from pipeline.base.errors import UserError
from pipeline.base.files import write_json
from pipeline.training.initial import initial_objective, told
from pipeline.vocabulary.matching import folder_vocabulary, match_rows, vocabulary_of
from pipeline.vocabulary.reading import load_codec
from tests.model.tiny import VOCAB, tiny_objective
from tests.pipeline.training.hf_pairs import POSITIONS, make_origin, make_pair, make_run
from tests.pipeline.vocabulary.hf_tokenizers import byte_bpe, save, word_piece

ROWS = 400


class Pair:
    """A released pair, data made with its tokenizer, and runs that start from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.discriminator, self.generator = make_pair(folder, word_piece(ROWS))
        self.rows = self.discriminator.config.vocab_size
        self.data = make_origin(folder / "data", folder / "generator" / "tokenizer.json")
        theirs = folder_vocabulary(folder / "generator")
        assert theirs is not None
        self.order = torch.tensor(match_rows(vocabulary_of(load_codec(self.data / "tokenizer/tokenizer.json")), theirs))

    def start(self, *overrides: str) -> tuple[Objective, dict[str, Any]]:
        config, origin = make_run(self.folder, self.data, self.rows, "model.dropout=0", *overrides)
        objective, report = initial_objective(config, origin)
        return objective.eval(), report

    def both(self) -> tuple[str, str]:
        return f"init.discriminator={self.folder / 'discriminator'}", f"init.generator={self.folder / 'generator'}"

    @torch.no_grad()
    def differences(self, objective: Objective, length: int = 24) -> dict[str, float]:
        """Largest difference of each network's logits from transformers' own, over the same pieces."""
        ids = torch.randint(5, self.rows, (3, length), generator=torch.Generator().manual_seed(0))
        segments = (torch.arange(length) > length // 2).long().expand(3, -1)
        found = {}
        for name, network in objective.networks().items():
            theirs = getattr(self, name)(input_ids=self.order[ids], token_type_ids=segments).logits
            ours = network.logits(ids, None, segments)  # type: ignore[operator]
            found[name] = float((ours - (theirs[..., self.order] if name == "generator" else theirs)).abs().max())
        return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"))


def test_the_folders_own_logits(pair: Pair) -> None:
    objective, report = pair.start(*pair.both())
    assert max(pair.differences(objective, POSITIONS).values()) < 1e-4
    config = objective.model_config
    assert (config.hidden_size, config.embedding_size, config.max_positions) == (32, 24, POSITIONS)
    assert (config.generator.hidden_size, config.generator.heads, config.generator.ffn_size) == (16, 1, 48)
    for source in report["sources"].values():
        assert (source["rows_matched"], source["missing"], source["unused"]) == (pair.rows, [], [])
        assert len(source["sha256"]) == 64
    assert f"{pair.rows} of {pair.rows} rows of the vocabulary matched" in dict(told(report))["init.generator"]


def config_of(objective: Objective, name: str) -> Any:
    return objective.networks()[name].config


def test_a_missing_generator_or_discriminator(pair: Pair) -> None:
    discriminator, generator = pair.both()
    objective, report = pair.start(discriminator)
    assert pair.differences(objective)["discriminator"] < 1e-4
    assert objective.model_config.generator.hidden_size is None
    assert config_of(objective, "generator").hidden_size == 8, "the usual rule"
    assert "no generator to start from" in told(report)[0][1]
    objective, report = pair.start(generator)
    assert pair.differences(objective)["generator"] < 1e-4
    assert config_of(objective, "discriminator").hidden_size == 256, "the config's own"
    assert "no discriminator to start from" in told(report)[0][1]


def test_the_mlm_objective_takes_either(pair: Pair) -> None:
    discriminator, generator = pair.both()
    objective, report = pair.start("objective.name=mlm", generator)
    assert pair.differences(objective)["generator"] < 1e-4
    objective, report = pair.start("objective.name=mlm", discriminator)
    assert "no head for this: 5 tensors drawn at random" in told(report)[0][1]
    with pytest.raises(UserError, match="has one network"):
        pair.start("objective.name=mlm", generator, discriminator)


def rewritten(pair: Pair, path: Path, change: Any, name: str = "discriminator") -> str:
    """A copy of a folder whose tensors `change` has edited, as an override."""
    path.mkdir()
    for file in (pair.folder / name).iterdir():
        if file.suffix == ".json":
            (path / file.name).write_bytes(file.read_bytes())
    state = load_file(pair.folder / name / "model.safetensors")
    change(state, path)
    return f"init.{name}={path}"


def test_other_files_of_weights(pair: Pair, tmp_path: Path) -> None:
    def torch_file(state: dict[str, Tensor], path: Path) -> None:
        state["electra.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
        torch.save(state, path / "pytorch_model.bin")

    def parts(state: dict[str, Tensor], path: Path) -> None:
        names = sorted(state)
        halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for file, inside in halves.items():
            save_file({name: state[name] for name in inside}, path / file)
        places = {name: file for file, inside in halves.items() for name in inside}
        write_json(path / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})

    for number, change in enumerate((torch_file, parts)):
        objective, report = pair.start(rewritten(pair, tmp_path / str(number), change))
        assert pair.differences(objective)["discriminator"] < 1e-4
        assert report["sources"]["discriminator"]["unused"] == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(pair: Pair, tmp_path: Path, value: float) -> None:
    def change(state: dict[str, Tensor], path: Path) -> None:
        state["electra.encoder.layer.0.output.dense.bias"][3] = value
        save_file(state, path / "model.safetensors")

    with pytest.raises(UserError, match=r"broken: 1 of its tensors hold NaN.*layer\.0\.output\.dense\.bias"):
        pair.start(rewritten(pair, tmp_path / "broken", change))


def test_an_encoder_without_a_head(pair: Pair, tmp_path: Path) -> None:
    ElectraModel.from_pretrained(pair.folder / "discriminator").save_pretrained(tmp_path / "bare")
    save(word_piece(ROWS), tmp_path / "bare")
    (tmp_path / "bare" / "tokenizer.json").write_bytes((pair.folder / "generator" / "tokenizer.json").read_bytes())
    objective, report = pair.start(f"init.discriminator={tmp_path / 'bare'}")
    assert len(report["sources"]["discriminator"]["missing"]) == 4
    network: Any = objective.networks()["discriminator"]
    theirs = pair.discriminator.discriminator_predictions
    assert bool((network.head.dense.weight != 0).any()), "drawn, not left empty"
    with torch.no_grad():
        for parameter, other in zip(network.head.parameters(), theirs.parameters(), strict=True):
            parameter.copy_(other)
    assert pair.differences(objective)["discriminator"] < 1e-4


def test_a_pair_whose_embeddings_differ(tmp_path: Path) -> None:
    tokenizer = word_piece(ROWS)
    make_pair(tmp_path, tokenizer, same=False)
    data = make_origin(tmp_path / "data", tmp_path / "generator" / "tokenizer.json")
    both = [f"init.{name}={tmp_path / name}" for name in ("discriminator", "generator")]
    config, origin = make_run(tmp_path, data, tokenizer.get_vocab_size(), *both)
    objective, report = initial_objective(config, origin)
    assert "the discriminator's are taken" in dict(told(report))["init.generator"]
    theirs = load_file(tmp_path / "discriminator" / "model.safetensors")["electra.embeddings.LayerNorm.bias"]
    network: Any = objective.networks()["generator"]
    assert torch.equal(network.encoder.embeddings.norm.bias, theirs)


def test_another_vocabulary(pair: Pair, tmp_path: Path) -> None:
    given = save(byte_bpe(), tmp_path / "tokenizer", ("<pad>", "<unk>", "<s>", "</s>", "<mask>"))
    data = make_origin(tmp_path / "data", given)
    ours = vocabulary_of(load_codec(data / "tokenizer" / "tokenizer.json"))
    config, origin = make_run(tmp_path, data, len(ours.pieces), *pair.both())
    objective, report = initial_objective(config, origin)
    source = report["sources"]["discriminator"]
    assert 60 < source["rows_matched"] < source["rows"] == len(ours.pieces)
    counted = f"{source['rows_matched']} of {source['rows']} rows of the vocabulary matched, the rest drawn"
    assert counted in str(told(report))
    theirs = pair.generator.get_input_embeddings().weight
    network: Any = objective.networks()["generator"]
    rows = match_rows(ours, folder_vocabulary(pair.folder / "generator"))  # type: ignore[arg-type]
    place = max(range(len(rows)), key=rows.__getitem__)
    assert torch.equal(network.encoder.embeddings.word.weight[place], theirs[rows[place]])
    assert torch.equal(network.head.decoder.bias[place], pair.generator.generator_lm_head.bias[rows[place]])
    unmatched = rows.index(-1)
    assert float(network.encoder.embeddings.word.weight[unmatched].abs().max()) <= 2 * 0.02 + 1e-6
    assert float(network.head.decoder.bias[unmatched]) == 0


def test_positions_longer_and_shorter(pair: Pair) -> None:
    objective, report = pair.start(*pair.both(), "data.sequence_length=64", "model.max_positions=100")
    network: Any = objective.networks()["generator"]
    table = network.encoder.embeddings.position.weight
    assert torch.equal(table[POSITIONS : 2 * POSITIONS], table[:POSITIONS])
    assert torch.equal(table[2 * POSITIONS :], table[: 100 - 2 * POSITIONS])
    assert "60 of 100 positions are copies" in str(told(report))
    assert pair.differences(objective, POSITIONS)["discriminator"] < 1e-4
    objective, report = pair.start(*pair.both(), "model.max_positions=30")
    assert "10 positions left out" in str(told(report))
    assert pair.differences(objective, 30)["generator"] < 1e-4


def test_modernbert_folders_of_ours(tmp_path: Path) -> None:
    theirs = tiny_objective("electra", "modernbert", seed=3)
    data = make_origin(tmp_path / "data", save(word_piece(VOCAB), tmp_path / "tokenizer"))
    for name, network in theirs.networks().items():
        sizes, state, _ = to_hf(network)
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "config.json", sizes)
        save_file(state, tmp_path / name / "model.safetensors")
    both = [f"init.{name}={tmp_path / name}" for name in theirs.networks()]
    config, origin = make_run(tmp_path, data, VOCAB, *both)
    ours, report = initial_objective(config, origin)
    assert "taken in the order of the run's own pieces" in str(told(report)), "these folders have no tokenizer"
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-6)
    assert (config.model.global_every, config.model.local_window, config.model.generator.layers) == (3, 8, 2)


def lacks(name: str) -> Any:
    def change(state: dict[str, Tensor], path: Path) -> None:
        del state[name]
        save_file(state, path / "model.safetensors")

    return change


def damaged(state: dict[str, Tensor], path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"nothing")


def with_code(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"weights": Path("somewhere")}, path / "pytorch_model.bin")


def without_tokenizer(state: dict[str, Tensor], path: Path) -> None:
    (path / "tokenizer.json").unlink()
    values = json.loads((path / "config.json").read_text())
    write_json(path / "config.json", values | {"vocab_size": 7})
    words = "electra.embeddings.word_embeddings.weight"
    save_file(state | {words: state[words][:7].clone()}, path / "model.safetensors")


def other_activation(state: dict[str, Tensor], path: Path) -> None:
    write_json(path / "config.json", json.loads((path / "config.json").read_text()) | {"hidden_act": "relu"})


def another_kind(state: dict[str, Tensor], path: Path) -> None:
    write_json(path / "config.json", {"model_type": "bert"})


def settings_without_names(state: dict[str, Tensor], path: Path) -> None:
    save_file(state, path / "model.safetensors")
    write_json(path / "tokenizer_config.json", ["model_max_length"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lacks("electra.encoder.layer.1.output.dense.bias"), "1 of the encoder's .* tensors are missing, such as"),
        (damaged, "model.safetensors cannot be read"),
        (with_code, "pytorch_model.bin is not a file of tensors"),
        (lambda state, path: None, "has no weights"),
        (without_tokenizer, "neither tokenizer.json nor vocab.txt, and 7 embedding rows"),
        (settings_without_names, r"tokenizer_config\.json is no JSON object\. Take the file"),
        (other_activation, "its activation is 'relu'"),
        (another_kind, "model_type 'bert'; weights are taken from electra and modernbert"),
    ],
)
def test_unfit_folders(pair: Pair, tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pair.start(rewritten(pair, tmp_path / "copy", change))
