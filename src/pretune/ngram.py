"""A word n-gram language model from text, small enough to be stored as JSON beside a speech model."""

from __future__ import annotations

__all__ = ["BEGIN", "END", "UNKNOWN", "NGram"]

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from pretune.errors import ConfigError, DataError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"

History: TypeAlias = tuple[str, ...]


class NGram:
    """Interpolated n-grams with Witten-Bell smoothing (Witten & Bell 1991; Chen & Goodman 1998).

    ``p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h))``, where c counts, T(h) is the number of different words seen
    after h, and h' is h without its first word. Below the single words stands an equal share for every entry of
    `vocabulary`. Witten-Bell has no discounts to estimate, so that it is defined for any text, however short;
    Kneser-Ney's come from counts of counts, which are zero in small texts.

    Words are what whitespace separates, compared exactly: case and punctuation have to be those that the model of the
    sound spells. Words outside the vocabulary count as `UNKNOWN`, which has the probability of one unseen word.

    Args:
        order: Longest n-gram, in words; 1 looks at no context.
        counts: From each history (at most ``order - 1`` words) to the counts of the words that follow it.

    Raises:
        ConfigError: `order` below 1.
        DataError: No word at all.
    """

    def __init__(self, order: int, counts: Mapping[History, Mapping[str, int]]) -> None:
        self.order = _checked(order)
        self._counts = {history: dict(following) for history, following in counts.items()}
        if not self._counts.get(()):
            raise DataError("An n-gram model needs at least one sentence with a word, found none.")
        self._totals = {history: sum(following.values()) for history, following in self._counts.items()}
        self.vocabulary = frozenset(self._counts[()]) | {END, UNKNOWN}

    @classmethod
    def from_sentences(cls, sentences: Iterable[str], order: int = 3) -> NGram:
        """Counts the n-grams of `sentences`, each of which begins and ends; blank ones are left out.

        Raises:
            ConfigError: `order` below 1.
            DataError: No word at all.
        """
        counts: dict[History, Counter[str]] = {}
        for words in map(_words, sentences):
            for history, word in _ngrams(words, _checked(order)):
                counts.setdefault(history, Counter())[word] += 1
        return cls(order, counts)

    def log_prob(self, context: tuple[str, ...], word: str) -> float:
        """Natural logarithm of the probability that `word` follows `context`.

        Args:
            context: The words before, of which the last ``order - 1`` count; it starts with `BEGIN` where the sentence
                does, and an empty one is a place of which nothing is known.
            word: A word, or `END`.
        """
        word = self._known(word)
        kept = context[max(0, len(context) - self.order + 1) :]
        return math.log(self._prob(tuple(w if w == BEGIN else self._known(w) for w in kept), word))

    def perplexity(self, sentences: Iterable[str]) -> float:
        """Exponential of the mean negative log-probability of a word or sentence end.

        Raises:
            DataError: No word in `sentences`.
        """
        found = [self.log_prob(context, word) for words in map(_words, sentences) for context, word in _steps(words)]
        if not found:
            raise DataError("A perplexity needs at least one sentence with a word, found none.")
        return math.exp(-sum(found) / len(found))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form: `order`, and `counts` with the words of a history joined by spaces."""
        return {"order": self.order, "counts": {" ".join(h): dict(f) for h, f in self._counts.items()}}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> NGram:
        """The model that `to_dict` stored.

        Raises:
            DataError: Not such a dictionary.
        """
        try:
            counts = {tuple(h.split()): {str(w): int(n) for w, n in f.items()} for h, f in stored["counts"].items()}
            return cls(int(stored["order"]), counts)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"Not a stored n-gram model: {type(error).__name__}: {error}.") from error

    def _known(self, word: str) -> str:
        return word if word in self.vocabulary else UNKNOWN

    def _prob(self, history: History, word: str) -> float:
        lower = self._prob(history[1:], word) if history else 1 / len(self.vocabulary)
        following = self._counts.get(history)
        if following is None:
            return lower
        return (following.get(word, 0) + len(following) * lower) / (self._totals[history] + len(following))


def _checked(order: int) -> int:
    if order < 1:
        raise ConfigError(f"order must be at least 1, found {order}; 3 is usual.")
    return order


def _words(sentence: str) -> list[str]:
    """The words; those that look like a sentence's begin or end are unknown ones."""
    return [UNKNOWN if w in (BEGIN, END) else w for w in sentence.split()]


def _steps(words: list[str]) -> Iterator[tuple[History, str]]:
    """Every word and the end, each after all that is before it; nothing for a blank sentence."""
    padded = (BEGIN, *words, END)
    return ((padded[:i], padded[i]) for i in range(1, len(padded) if words else 0))


def _ngrams(words: list[str], order: int) -> Iterator[tuple[History, str]]:
    for context, word in _steps(words):
        for length in range(min(order - 1, len(context)) + 1):
            yield context[len(context) - length :], word
