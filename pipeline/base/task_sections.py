"""The sections of a run's config that are about using the model: fine-tuning, evaluating, explaining."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from pipeline.base.section import Fraction, Place, Positive, Rate, Section


class FieldsConfig(Section):
    """What the files call their fields; by default the usual names are looked for (docs/finetune.md)."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    text: str | None = None
    """The text, or the first of two."""
    pair: str | None = None
    """The second text."""
    label: str | None = None
    """Label, or score."""
    tokens: str | None = None
    """List of tokens; for CoNLL files the number of the column, from 0 (negative: from the end)."""
    tags: str | None = None
    """List of IOB2 tags; for CoNLL files the number of the column."""
    tag_names: tuple[str, ...] | None = None
    """What tags that are numbers stand for, from 0: [O, B-PER, I-PER]."""
    question: str | None = None
    """Question."""
    context: str | None = None
    """Text that holds the answer."""
    answers: str | None = None
    """{"text": [...], "answer_start": [...]}, as SQuAD has it."""
    source: str | None = None
    """Text to translate or to summarise."""
    target: str | None = None
    """Its translation or summary."""

    def overridden(self, given: "FieldsConfig") -> "FieldsConfig":
        """With the names that `given` has."""
        return self.model_copy(update={key: name for key, name in given if name is not None})


class ExportChoice(Section):
    """One of the exports that a sweep compares."""

    path: Place
    """A Hugging Face folder."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """random: the same shape from random weights."""


class FinetuneConfig(Section):
    """A task on top of an export, or a sweep over tasks, exports, seeds and numbers of examples."""

    name: str = "classification"
    """Folder of the results and part of the metric names: finetune/NAME/accuracy."""
    family: str = "classification"
    """Kind of task: a file of pipeline/tasks/families/."""
    export: Place | None = None
    """A Hugging Face folder; by default this run's exported discriminator (the mlm objective: generator)."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """random: the export's shape and tokenizer with random weights, to see what pretraining gives."""
    reinitialize_layers: Annotated[int, Field(ge=0)] = 0
    """Top layers of the body that start from random weights again, like all above them; the others are pretrained."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Of the body's embeddings and layers, attention aside; by default the export's own (the paper: 0.1)."""
    data_folder: Place | None = None
    """Folder that relative paths of train, dev and test start from; by default the working folder."""
    format: Literal["auto", "jsonl", "csv", "tsv", "conll", "squad"] = "auto"
    """Of the three files, each also .gz or .zst; auto: by the file's suffix."""
    train: Place | None = None
    """The file to learn from."""
    dev: Place | None = None
    """The same, to choose the best epoch."""
    test: Place | None = None
    """The same, for the reported figures; may be absent."""
    fields: FieldsConfig = FieldsConfig()
    epochs: Positive = 3
    """Passes over the training file."""
    patience: Positive | None = None
    """Epochs without a better score on dev after which training ends early; by default it never does."""
    batch_size: Positive = 32
    """Examples (long texts: windows) a step."""
    select: str | None = None
    """The figure on dev by which the best epoch and the best seed are chosen; by default the family's own."""
    lr: Rate | None = None
    """Peak learning rate; by default the paper's by the export's size: 3e-4 small, 1e-4 base, 5e-5 large."""
    max_length: Annotated[int, Field(ge=8)] = 128
    """Tokens a row; longer texts are cut, and counted, or read in windows."""
    long_text: Literal["cut", "windows"] = "cut"
    """windows: a text longer than max_length is read whole, in overlapping windows, and decided over all of them."""
    stride: Annotated[int, Field(ge=0)] = 64
    """Tokens that neighbouring windows share."""
    pooling: Literal["mean", "max"] = "mean"
    """How a text's windows decide on its label: mean of log-probabilities, or the surest window."""
    warmup_fraction: Fraction = 0.1
    """Share of the steps over which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """The released configuration's; the paper's appendix B says 0."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor of the learning rate from a layer to the one below; by default the paper's: 0.8, large 0.9."""
    top_layer_power: Annotated[int, Field(ge=0)] = 1
    """The top layer's rate is lr * layer_decay ** this: 1 by the paper's text, 2 in the released code."""
    head: Literal["cls", "library", "mean"] = "cls"
    """cls: dropout and one linear layer over the [CLS] vector (released code); library: transformers' own head; mean:
    ModernBERT's own over the mean of all tokens' vectors."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast."""
    save_every: Positive = 500
    """Steps between states from which a killed fine-tuning goes on; each epoch ends with one."""
    seeds: Positive = 1
    """Repetitions with seed, seed + 1, ...: median, spread and the best on dev are reported."""
    tasks: tuple[Place, ...] = ()
    """YAML files of tasks to run one after another, each with all exports and seeds, as Ray tasks."""
    exports: dict[str, ExportChoice] = {}
    """Name to export, for a sweep that compares several; by default finetune.export alone."""
    train_examples: tuple[Positive, ...] = ()
    """Numbers of training examples to try, drawn with each seed: score against examples."""
    bag_of_words: bool | None = None
    """Also a linear model over words and characters (scikit-learn), to compare with; null: with train_examples."""
    task_settings: dict[str, dict[str, Any]] = {}
    """A sweep's exceptions: name of a task to keys of this section that hold for it alone, over all others."""
    max_train_examples: Positive | None = None
    """Most training examples; of more, that many are drawn by the seed, balanced by class (docs/finetune.md)."""
    min_updates: Annotated[int, Field(ge=0)] = 0
    """Fewest steps: a small training file is passed over more often than `epochs`, and dev scored `epochs` times."""
    log_model: bool = True
    """Keep the model with the MLflow run too, so that `mlflow models serve` serves it."""
    max_answer_tokens: Positive = 30
    """question_answering: longest answer."""
    target_vocab_size: Annotated[int, Field(ge=262)] = 8000
    """translation: pieces of the target side's SentencePiece vocabulary."""
    max_target_length: Annotated[int, Field(ge=4)] = 64
    """translation, summarisation: tokens of a target; longer ones are cut, and counted."""
    beams: Positive = 4
    """translation, summarisation: beams of the search (1: greedy)."""


class EvaluateConfig(Section):
    """A checkpoint on the validation split; a fine-tuned model on a file; or pairs of texts."""

    checkpoint: str = "latest"
    """latest, or a folder's name such as step-00000120."""
    sequences: Positive = 4096
    """Most sequences used."""
    model: Place | None = None
    """A fine-tuned task's folder (run_dir/finetune/NAME): it is evaluated on evaluate.data instead."""
    data: Place | None = None
    """A file like the task's own."""
    minimal_pairs: tuple[Place, ...] = ()
    """JSON lines of {"good", "bad"} and perhaps "phenomenon": which of the two the networks prefer."""
    probes: tuple[str, ...] = ()
    """Sets of pairs that come with the pipeline, by name: grammar_en, bias_en, bias_zh."""
    discriminator: Place | None = None
    """Folder that scores pairs; by default this run's export."""
    generator: Place | None = None
    """The same for the generator."""


class ExplainConfig(Section):
    """A page that shows what the networks make of a text."""

    text: str | None = None
    """The text."""
    file: Place | None = None
    """Or a file: a text a line (.txt), or an object with one text or two that go together a line (.jsonl)."""
    discriminator: Place | None = None
    """Folder whose judgement is shown; by default this run's export."""
    generator: Place | None = None
    """Folder whose candidates are shown; by default this run's export."""
    classifier: Place | None = None
    """A fine-tuned folder (finetune/NAME/model) whose decision is attributed to tokens; may be absent."""
    output: Place | None = None
    """The page; by default run_dir/explain.html, and the same as JSON beside it."""
    candidates: Positive = 5
    """Candidates of the generator shown a token."""
    candidate_budget: Positive = 262_144
    """Tokens that the generator reads at most: a token costs one reading of its window; the rest have no candidates."""
    steps: Positive = 50
    """Points of the integral of integrated gradients."""
