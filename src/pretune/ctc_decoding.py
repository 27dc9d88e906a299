"""From the frame-wise output of a connectionist temporal classification model (CTC, Graves et al. 2006) to words.

A path has one symbol a frame; its labelling is what stays when repeats are merged and then blanks are taken out.
`greedy` reads the most probable path, `beam` looks for the most probable labelling, whose probability is the sum over
its paths, and can weigh in a word language model. `align` says in which frames a known labelling is.

``log_probs`` are natural logarithms of probabilities, shape (frames, symbols), and times are frame indices with the end
exclusive. Our own, because pyctcdecode is unmaintained and needs NumPy below 2, and kenlm has no wheels.
"""

from __future__ import annotations

__all__ = ["PRUNE", "SKIP", "Transcript", "Word", "align", "beam", "greedy"]

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pretune.errors import ConfigError, DataError
from pretune.ngram import BEGIN, END, NGram

SKIP = frozenset({"<pad>", "<s>", "</s>", "<unk>", "[PAD]", "[UNK]", "[CLS]", "[SEP]"})
PRUNE = -10.0  # a probability of 0.00005

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
Span: TypeAlias = tuple[int, int]

_FLOOR = -1e4  # instead of -inf, with which a frame that has all its mass on skipped symbols would leave no path


@dataclass(frozen=True)
class Word:
    """A word, the frames that it is in, and how sure the model is of them."""

    text: str
    start: int
    end: int
    """First frame after it."""
    score: float
    """Mean probability of its characters in the frames that they are in, 0 to 1."""


@dataclass(frozen=True)
class Transcript:
    """A decoded text, its words in order, and a log-probability."""

    text: str
    words: list[Word]
    score: float
    """Of `greedy`: of the path. Of `beam`: of the labelling, over all its paths, without the language model's share."""


def greedy(
    log_probs: NDArray[np.float32],
    alphabet: Sequence[str],
    blank: int,
    delimiter: str = "|",
    *,
    skip: Collection[str] = SKIP,
) -> Transcript:
    """The labelling of the most probable path.

    Args:
        log_probs: Shape (frames, symbols).
        alphabet: Text of every symbol.
        blank: Index of the blank, whatever its text.
        delimiter: Symbol between words, a space in the text.
        skip: Symbols that are never chosen; the blank may be among them.

    Raises:
        DataError: `log_probs` that do not fit the alphabet or are no log-probabilities.
        ConfigError: `blank` outside the alphabet.
    """
    logs = _checked(log_probs, alphabet, blank)
    allowed = np.append(_emittable(alphabet, blank, skip), blank)
    path = allowed[logs[:, allowed].argmax(axis=1)]
    tokens, spans = _collapsed(path, blank)
    score = float(logs[np.arange(len(logs)), path].sum())
    return _transcript(logs, tokens, spans, alphabet, delimiter, score)


def beam(
    log_probs: NDArray[np.float32],
    alphabet: Sequence[str],
    blank: int,
    *,
    delimiter: str = "|",
    width: int = 50,
    lm: NGram | None = None,
    lm_weight: float = 0.5,
    word_bonus: float = 1.0,
    prune: float = PRUNE,
    skip: Collection[str] = SKIP,
) -> Transcript:
    """The most probable labelling by prefix beam search (Hannun et al. 2014; Graves & Jaitly 2014).

    A labelling is ranked by ``log p + lm_weight * log p_lm + word_bonus * words``, the last two only with `lm`, whose
    share is added when a word is complete and, with the sentence's end, after the last frame. Without `lm`, with
    unlimited `width` and `prune` -inf, the search is exact. Word times are those of `align`.

    Args:
        log_probs: Shape (frames, symbols).
        alphabet: Text of every symbol.
        blank: Index of the blank, whatever its text.
        delimiter: Symbol between words, a space in the text.
        width: Prefixes kept after each frame.
        lm: Language model of words, spelled as `alphabet` spells them.
        lm_weight: Of the language model's log-probability against the sound's.
        word_bonus: Added a word, because a language model favours few words.
        prune: A frame's symbols below this log-probability do not extend a prefix in that frame (its most probable one
            always does); -inf prunes none.
        skip: Symbols that are never chosen; the blank may be among them.

    Raises:
        DataError: `log_probs` that do not fit the alphabet or are no log-probabilities.
        ConfigError: `blank` outside the alphabet, or `width` below 1.
    """
    if width < 1:
        raise ConfigError(f"width must be at least 1, found {width}; 50 is usual.")
    logs = _checked(log_probs, alphabet, blank)
    prefixes = _Prefixes(alphabet, delimiter, lm, lm_weight, word_bonus)
    tokens = _searched(logs, _emittable(alphabet, blank, skip), blank, prefixes, width, prune)
    return _transcript(logs, tokens, align(logs, tokens, blank), alphabet, delimiter, _summed(logs, tokens, blank))


def align(log_probs: NDArray[np.floating], token_ids: Sequence[int], blank: int) -> list[Span]:
    """The frames of every token on the most probable path of a labelling (Viterbi; Graves et al. 2006, section 4.1).

    Args:
        log_probs: Shape (frames, symbols).
        token_ids: The labelling, without blanks.
        blank: Index of the blank.

    Returns:
        Start and end (exclusive) a token; frames of blanks belong to none.

    Raises:
        ValueError: A blank among the tokens, or fewer frames than tokens and blanks between equal neighbours.
    """
    tokens = np.asarray(token_ids, dtype=np.int64)
    again = tokens[1:] == tokens[:-1]
    needed = len(tokens) + int(again.sum())
    if len(log_probs) < needed:
        raise DataError(f"{len(tokens)} tokens need at least {needed} frames, found {len(log_probs)}.")
    if (tokens == blank).any():
        raise DataError(f"The tokens to align must not hold the blank ({blank}).")
    if not len(tokens):
        return []
    logs = np.maximum(np.asarray(log_probs, dtype=np.float64), _FLOOR)
    path = _viterbi(logs[:, _states(tokens, blank)], again)
    at = np.searchsorted(path, np.arange(2 * len(tokens) + 1))  # a path never goes back
    return [(int(at[s]), int(at[s + 1])) for s in range(1, 2 * len(tokens), 2)]


def _states(tokens: Indices, blank: int) -> Indices:
    """The symbols of a labelling's states: blank, token, blank, ..., blank."""
    states = np.full(2 * len(tokens) + 1, blank)
    states[1::2] = tokens
    return states


def _reached(before: Floats, again: NDArray[np.bool_]) -> Floats:
    """What reaches every state from itself, the one before, and over a blank, shape (3, states).

    `again` tells, for every token but the first, whether it repeats the one before and needs the blank between.
    """
    reached = np.full((3, len(before)), -np.inf)
    reached[0], reached[1, 1:] = before, before[:-1]
    reached[2, 3::2] = np.where(again, -np.inf, before[1:-2:2])
    return reached


def _viterbi(logs: Floats, again: NDArray[np.bool_]) -> Indices:
    """The best state a frame, shape (frames,), from log-probabilities of shape (frames, states)."""
    moves = np.zeros(logs.shape, np.int8)
    best = np.where(np.arange(logs.shape[1]) < 2, logs[0], -np.inf)
    for t in range(1, len(logs)):
        reached = _reached(best, again)
        moves[t] = reached.argmax(axis=0)
        best = reached.max(axis=0) + logs[t]
    return _traced(moves, len(best) - (1 if best[-1] >= best[-2] else 2))


def _traced(moves: NDArray[np.int8], state: int) -> Indices:
    path = np.empty(len(moves), np.int64)
    for t in range(len(moves) - 1, -1, -1):
        path[t] = state
        state -= int(moves[t, state])
    return path


def _summed(logs: Floats, token_ids: list[int], blank: int) -> float:
    """Log-probability of a labelling over all its paths (the forward algorithm; Graves et al. 2006, section 4.1)."""
    tokens = np.asarray(token_ids, dtype=np.int64)
    total = np.where(np.arange(2 * len(tokens) + 1) < 1, 0.0, -np.inf)  # before the first frame, as if in a blank
    for frame in logs[:, _states(tokens, blank)]:
        total = np.logaddexp.reduce(_reached(total, tokens[1:] == tokens[:-1]), axis=0) + frame
    return float(np.logaddexp.reduce(total[-2:]))


class _Prefixes:
    """Every prefix that was ever kept, as a tree, with what the language model needs to know of it; 0 is empty."""

    def __init__(
        self, alphabet: Sequence[str], delimiter: str, lm: NGram | None, lm_weight: float, word_bonus: float
    ) -> None:
        self._alphabet = alphabet
        self.delimiter = alphabet.index(delimiter) if delimiter in alphabet else -1
        self.lm = lm
        self._weight, self._bonus = lm_weight, word_bonus
        self.parents, self.symbols = [-1], [-1]
        self._contexts: list[tuple[str, ...]] = [(BEGIN,)]
        self._spelled = [""]
        self._children: dict[tuple[int, int], int] = {}
        self._gains: dict[int, float] = {}

    def child(self, parent: int, symbol: int) -> int:
        """The prefix of `parent` and one symbol more: the same each time, whether or not it left the beam."""
        found = self._children.setdefault((parent, symbol), len(self.parents))
        if found == len(self.parents):
            self._add(parent, symbol)
        return found

    def _add(self, parent: int, symbol: int) -> None:
        self.parents.append(parent)
        self.symbols.append(symbol)
        completes = symbol == self.delimiter
        self._contexts.append(self._completed(parent) if completes else self._contexts[parent])
        self._spelled.append("" if completes else self._spelled[parent] + self._alphabet[symbol])

    def _completed(self, node: int) -> tuple[str, ...]:
        """The last words when the one that is being spelled ends here; two delimiters in a row hold no word."""
        context, word = self._contexts[node], self._spelled[node]
        kept = self.lm.order if self.lm else 1
        return (*context, word)[-kept:] if word else context

    def gain(self, node: int) -> float:
        """What a hypothesis gains when its last word ends here."""
        if node not in self._gains:
            self._gains[node] = self._gain(node)
        return self._gains[node]

    def _gain(self, node: int) -> float:
        if self.lm is None or not self._spelled[node]:
            return 0.0
        return self._weight * self.lm.log_prob(self._contexts[node], self._spelled[node]) + self._bonus

    def ending(self, node: int) -> float:
        """What a hypothesis gains when the sentence ends here."""
        if self.lm is None:
            return 0.0
        return self.gain(node) + self._weight * self.lm.log_prob(self._completed(node), END)

    def tokens(self, node: int) -> list[int]:
        """The symbols of a prefix, in order."""
        found = []
        while node:
            found.append(self.symbols[node])
            node = self.parents[node]
        return found[::-1]


@dataclass
class _Kept:
    """The prefixes of the beam, one a row: log-probabilities of their paths that end in a blank or in their symbol."""

    nodes: list[int]
    last: Indices
    blank: Floats
    symbol: Floats
    lm: Floats


def _searched(logs: Floats, emittable: Indices, blank: int, prefixes: _Prefixes, width: int, prune: float) -> list[int]:
    """The tokens of the best prefix after all frames."""
    kept = _Kept([0], np.array([-1]), np.zeros(1), np.full(1, -np.inf), np.zeros(1))
    least = np.minimum(prune, logs.max(axis=1, initial=_FLOOR))
    for frame, low in zip(logs, least, strict=True):
        kept = _advanced(kept, frame, emittable[frame[emittable] >= low], blank, prefixes, width)
    total = np.logaddexp(kept.blank, kept.symbol)
    best = int(np.argmax(total + kept.lm + [prefixes.ending(n) for n in kept.nodes]))
    return prefixes.tokens(kept.nodes[best])


def _advanced(kept: _Kept, frame: Floats, symbols: Indices, blank: int, prefixes: _Prefixes, width: int) -> _Kept:
    """The beam one frame on: every prefix stays, and grows by every one of `symbols`; the best are kept."""
    total = np.logaddexp(kept.blank, kept.symbol)
    repeats = kept.last[:, None] == symbols
    grown = np.where(repeats, kept.blank[:, None], total[:, None]) + frame[symbols]
    stays = _Kept(kept.nodes, kept.last, total + frame[blank], kept.symbol + frame[kept.last], kept.lm)
    _merge(stays, grown, symbols, prefixes)
    lm = np.repeat(kept.lm[:, None], len(symbols), axis=1)
    if prefixes.lm is not None and (ends := symbols == prefixes.delimiter).any():
        lm[:, ends] += np.array([prefixes.gain(n) for n in kept.nodes])[:, None]
    ranked = np.concatenate([np.logaddexp(stays.blank, stays.symbol) + stays.lm, (grown + lm).ravel()])
    chosen = _best(ranked, width)
    stay, new = chosen[chosen < len(total)], chosen[chosen >= len(total)] - len(total)
    return _joined(stays, stay, grown, lm, np.divmod(new, max(1, len(symbols))), symbols, prefixes)


def _joined(
    stays: _Kept,
    stay: Indices,
    grown: Floats,
    lm: Floats,
    new: tuple[Indices, Indices],
    symbols: Indices,
    prefixes: _Prefixes,
) -> _Kept:
    """The rows `stay` of the prefixes that stay, then the (rows, columns) `new` of the grown ones."""
    added = symbols[new[1]]
    pairs = zip(new[0].tolist(), added.tolist(), strict=True)
    return _Kept(
        [stays.nodes[r] for r in stay.tolist()] + [prefixes.child(stays.nodes[r], s) for r, s in pairs],
        np.concatenate([stays.last[stay], added]),
        np.concatenate([stays.blank[stay], np.full(len(added), -np.inf)]),
        np.concatenate([stays.symbol[stay], grown[new]]),
        np.concatenate([stays.lm[stay], lm[new]]),
    )


def _merge(stays: _Kept, grown: Floats, symbols: Indices, prefixes: _Prefixes) -> None:
    """Moves the paths by which a prefix of the beam grows into another one of the beam over to that one, in place."""
    row_of = {node: row for row, node in enumerate(stays.nodes)}
    column_of = {symbol: column for column, symbol in enumerate(symbols.tolist())}
    parents, own = prefixes.parents, prefixes.symbols
    found = [
        (child, row_of[parents[node]], column_of[own[node]])
        for node, child in row_of.items()
        if parents[node] in row_of and own[node] in column_of
    ]
    if found:
        child, row, column = np.array(found).T
        stays.symbol[child] = np.logaddexp(stays.symbol[child], grown[row, column])
        grown[row, column] = -np.inf


def _best(ranked: Floats, width: int) -> Indices:
    """Positions of the `width` highest possible values, in ascending order."""
    if len(ranked) > width:
        positions = np.sort(np.argpartition(ranked, len(ranked) - width)[len(ranked) - width :])
    else:
        positions = np.arange(len(ranked))
    return positions[ranked[positions] > -np.inf]


def _checked(log_probs: NDArray[np.floating], alphabet: Sequence[str], blank: int) -> Floats:
    logs = np.asarray(log_probs, dtype=np.float64)
    if logs.ndim != 2 or logs.shape[1] != len(alphabet):
        raise DataError(f"log_probs must have shape (frames, {len(alphabet)}), found {logs.shape}.")
    if not 0 <= blank < len(alphabet):
        raise ConfigError(f"blank must be an index of the {len(alphabet)} symbols, found {blank}.")
    if not (logs <= 1e-3).all():  # also false for NaN
        raise DataError(f"log_probs must be logarithms of probabilities, found {logs.max()}; apply log_softmax first.")
    return np.maximum(logs, _FLOOR)


def _emittable(alphabet: Sequence[str], blank: int, skip: Collection[str]) -> Indices:
    return np.array([i for i, s in enumerate(alphabet) if i != blank and s not in skip], dtype=np.int64)


def _collapsed(path: Indices, blank: int) -> tuple[list[int], list[Span]]:
    """The runs of a path that are no blanks: their symbols and frames."""
    edges = np.flatnonzero(np.diff(path, prepend=-1, append=-1)).tolist()
    runs = [(int(path[a]), (a, b)) for a, b in pairwise(edges) if path[a] != blank]
    return [token for token, _ in runs], [span for _, span in runs]


def _transcript(
    logs: Floats, tokens: list[int], spans: list[Span], alphabet: Sequence[str], delimiter: str, score: float
) -> Transcript:
    words = list(_spelled(logs, tokens, spans, alphabet, delimiter))
    return Transcript(" ".join(w.text for w in words), words, score)


def _spelled(
    logs: Floats, tokens: list[int], spans: list[Span], alphabet: Sequence[str], delimiter: str
) -> Iterator[Word]:
    for between, group in groupby(zip(tokens, spans, strict=True), key=lambda pair: alphabet[pair[0]] == delimiter):
        if between:
            continue
        letters = list(group)
        probs = np.exp(np.concatenate([logs[a:b, token] for token, (a, b) in letters]))
        text = "".join(alphabet[token] for token, _ in letters)
        yield Word(text, letters[0][1][0], letters[-1][1][1], float(probs.mean()))
