"""Text as people type it: slips of the fingers, other case, lost words. Lists of words keep their number."""

from __future__ import annotations

__all__ = ["CORRUPTIONS"]

import itertools
import re
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from pretune.corruptions.base import Corruption, Record

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"\S+")

Words = Callable[[Sequence[str], float, np.random.Generator], list[str]]


def _keys() -> dict[str, str]:
    """Neighbours of each letter on an English keyboard."""
    place = {c: (x + 0.5 * y, y) for y, row in enumerate(_ROWS) for x, c in enumerate(row)}
    return {
        a: "".join(b for b, (u, v) in place.items() if a != b and abs(u - x) <= 1 and abs(v - y) <= 1)
        for a, (x, y) in place.items()
    }


_NEAR = _keys()


def _slips(sort: str, words: Sequence[str], rate: float, rng: np.random.Generator) -> list[str]:
    return [_slip(sort, word, rate, rng) for word in words]


def _slip(sort: str, word: str, rate: float, rng: np.random.Generator) -> str:
    """A word of which each letter may be swapped with the next, left out, or hit beside; never an empty one."""
    hit, choice = rng.random(len(word)), rng.random(len(word))
    letters = list(word)
    for i, letter in enumerate(word):
        if hit[i] >= rate or not letter.isalpha():
            continue
        if sort == "swap" and i + 1 < len(word) and word[i + 1].isalpha():
            letters[i], letters[i + 1] = letters[i + 1], letters[i]
        elif sort == "drop" and len(word) > 1:
            letters[i] = ""
        elif sort == "key" and letter.lower() in _NEAR:
            near = _NEAR[letter.lower()]
            other = near[int(choice[i] * len(near))]
            letters[i] = other.upper() if letter.isupper() else other
    return "".join(letters) or word[0]


def _case(words: Sequence[str], rate: float, rng: np.random.Generator) -> list[str]:
    """Words whose case is turned: capitals to small letters, small ones to capitals."""
    turned = rng.random(len(words)) < rate
    return [w.swapcase() if t else w for w, t in zip(words, turned, strict=True)]


def _dropped(words: Sequence[str], rate: float, rng: np.random.Generator) -> list[str]:
    """Words that are lost, as empty strings; the one that would be lost last always stays."""
    draws = rng.random(len(words))
    return [w if u >= rate or u == draws.max() else "" for w, u in zip(words, draws, strict=True)]


def _change(of_words: Words, record: Record, strength: float, rng: np.random.Generator) -> Record:
    found = dict(record)
    for role in ("text", "text_pair"):
        if isinstance(record.get(role), str):
            found[role] = _text(of_words, record[role], strength, rng)
    if record.get("tokens") is not None:
        changed = of_words(list(record["tokens"]), strength, rng)
        found["tokens"] = [new or "…" for new in changed]  # a lost word leaves a mark, so that tags keep their word
    return found


def _text(of_words: Words, text: str, strength: float, rng: np.random.Generator) -> str:
    """Words are changed where they stand; white space stays, but for that after lost words."""
    spans = [m.span() for m in _WORD.finditer(text)]
    if not spans:
        return text
    words = of_words([text[a:b] for a, b in spans], strength, rng)
    gaps = [text[b:c] for (_, b), (c, _) in itertools.pairwise(spans)] + [text[spans[-1][1] :]]
    joined = "".join(w + g if w else "" for w, g in zip(words, gaps, strict=True))
    return text[: spans[0][0]] + joined


def _corruption(name: str, severities: Sequence[float], unit: str, of_words: Words) -> Corruption:
    return Corruption(name, severities, unit, partial(_change, of_words))


_LETTERS, _WORDS = "{:.0%} of letters", "{:.0%} of words"

CORRUPTIONS = (
    _corruption("letters swapped", (0.02, 0.05, 0.1), _LETTERS, partial(_slips, "swap")),
    _corruption("letters left out", (0.02, 0.05, 0.1), _LETTERS, partial(_slips, "drop")),
    _corruption("neighbouring keys", (0.02, 0.05, 0.1), _LETTERS, partial(_slips, "key")),
    _corruption("case turned", (0.1, 0.5, 1.0), _WORDS, _case),
    _corruption("words lost", (0.1, 0.2, 0.4), _WORDS, _dropped),
)
