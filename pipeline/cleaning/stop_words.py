"""Documents of few stop words, which are no running text: lists of keywords, menus, tables.

English has a list of its own here: articles, pronouns, prepositions, conjunctions, auxiliaries, but none that menus and
advertisements are made of (about, up, out, off, us, my, all, now). The list of stopwordsiso has 1,298 words for
English, "buy", "best" and "free" among them, so that spam is full of them. Price: 75 MB/s in
English, 135 in Chinese.
"""

from functools import cache

from pipeline.base.cleaning_sections import StopWordsConfig
from pipeline.base.errors import UserError
from pipeline.cleaning.characters import Classes, chosen
from pipeline.cleaning.language import identify
from pipeline.cleaning.parts import Parts
from pipeline.cleaning.word_list import WordList
from pipeline.cleaning.words import has_unspaced

_ENGLISH = """
a an the this that these those each every either neither both some any no none such another other i me mine myself you
your yours yourself yourselves he him his himself she her hers herself it its itself we our ours ourselves they them
their theirs themselves who whom whose which what whoever whatever whichever someone somebody something anyone anybody
anything everyone everybody everything nobody nothing one oneself of to in for on with at by from into onto over under
after before between among through during against without within upon toward towards across behind beyond beside
besides below above along around near since until till down per via despite throughout and or but nor so yet if
because although though while whereas unless whether than as when where why how once am is are was were be been being
have has had having do does did doing done can could may might must shall should will would ought cannot isn't aren't
wasn't weren't haven't hasn't hadn't don't doesn't didn't can't couldn't won't wouldn't shouldn't i'm i've i'll i'd
you're you've you'll you'd he's he'll he'd she's she'll she'd it's we're we've we'll we'd they're they've they'll
they'd that's there's who's what's let's not there here then
"""
_MIN_SHARE_ENGLISH, _MIN_SHARE = 0.2, 0.1
"""Of 2,120 English documents the least share is 0.22, the median 0.47."""


class StopWords:
    """The filter. In a script without spaces the stop words of one letter are counted, since words are letters."""

    def __init__(self, config: StopWordsConfig) -> None:
        self._config = config
        if config.language == "auto":
            return
        if not _listed(config.language):
            import stopwordsiso  # late: reads all its lists

            known = ", ".join(sorted(stopwordsiso.langs()))
            raise UserError(
                f"clean.stop_words.language: there is no list of stop words for {config.language}; there are {known}."
            )
        if not _counted(config.language):
            raise UserError(
                f"clean.stop_words.language: {config.language} is written without spaces and has no stop words of one "
                "letter, so they cannot be counted: leave the filter out."
            )

    def fault(self, parts: Parts) -> str:
        """Why the document is dropped, "" where it is kept."""
        config = self._config
        language = identify(parts)[0] if config.language == "auto" else config.language
        stop_words = _counted(language)
        if not stop_words:
            return ""
        words = len(parts.words.ids)
        if _unspaced(language):
            found = _occurrences(language, parts)
        else:
            found = _word_list(language).count(parts)
        if found < config.min_count:
            return f"too few stop words: {found}"
        least = config.min_share
        if least is None:
            least = _MIN_SHARE_ENGLISH if language == "en" else _MIN_SHARE
        return f"too small a share of stop words: {found / words:.3g}" if words and found / words < least else ""


@cache
def _listed(language: str) -> frozenset[str]:
    """A language's list, empty where there is none."""
    if language == "en":
        return frozenset(_ENGLISH.split())
    import stopwordsiso  # late: reads all its lists

    words = stopwordsiso.stopwords(language)
    return frozenset(word.lower() for word in words if any(map(str.isalpha, word)))


@cache
def _unspaced(language: str) -> bool:
    """Whether the list's script is written without spaces."""
    words = _listed(language)
    return 2 * sum(map(has_unspaced, words)) > len(words)


@cache
def _counted(language: str) -> frozenset[str]:
    """Those of the list that can be counted."""
    words = _listed(language)
    return frozenset(word for word in words if len(word) == 1) if _unspaced(language) else words


@cache
def _word_list(language: str) -> WordList:
    return WordList(sorted(_counted(language)))


@cache
def _letters(language: str) -> Classes:
    return chosen(_counted(language))


def _occurrences(language: str, parts: Parts) -> int:
    from pipeline.cleaning.word_loops import count_chosen  # late: loads Numba

    return int(count_chosen(parts.points, _letters(language)))
