"""Sets of pairs that come with the pipeline, by name (evaluate.probes)."""

from collections.abc import Callable, Sequence

from pipeline.base.errors import UserError
from pipeline.probing import phenomena, phenomena_verbs
from pipeline.probing.bias import bias_en, bias_zh
from pipeline.probing.pairs import Pair, PairSet
from pipeline.probing.templates import Sentences

GRAMMAR_EN: tuple[Callable[[], list[Sentences]], ...] = (
    phenomena.subject_verb_agreement,
    phenomena.agreement_across_a_phrase,
    phenomena.anaphor_agreement,
    phenomena.determiner_noun_agreement,
    phenomena.word_order,
    phenomena_verbs.irregular_forms,
    phenomena_verbs.auxiliary_and_form,
    phenomena_verbs.transitivity,
    phenomena_verbs.negative_polarity,
    phenomena_verbs.wh_and_gap,
)
"""Each gives 100 pairs; its function's name is the phenomenon's."""


def grammar_en() -> list[Pair]:
    """Ten English phenomena of 100 pairs each."""
    pairs: list[Pair] = []
    for phenomenon in GRAMMAR_EN:
        for good, bad in phenomenon():
            pairs.append(Pair(good, bad, phenomenon.__name__, len(pairs) + 1))
    return pairs


PROBES: dict[str, Callable[[], list[Pair]]] = {"grammar_en": grammar_en, "bias_en": bias_en, "bias_zh": bias_zh}


def make_probes(names: Sequence[str]) -> list[PairSet]:
    """The sets of these names. Raises UserError for an unknown one."""
    unknown = [name for name in names if name not in PROBES]
    if unknown:
        raise UserError(f"evaluate.probes {unknown[0]!r} is not known: one of {', '.join(PROBES)}.")
    return [
        PairSet(name, "built in", "bias" if name.startswith("bias") else "grammar", PROBES[name]())
        for name in dict.fromkeys(names)
    ]
