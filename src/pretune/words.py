"""Words of a record and the tokens that each is made of: explanations are about words."""

from __future__ import annotations

__all__ = ["Words", "tagged_words", "words_of"]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from pretune.errors import DataError
from pretune.modalities.base import Batch, Example
from pretune.perturbing import WORDS, hidden_id
from pretune.pieces import Pieces
from pretune.tasks.base import Task
from pretune.word_explanation import WordExplanation

# scripts without spaces: a character is a word
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:[-'’][^\W{_UNSPACED}]+)*|[^\w\s]")


@dataclass(frozen=True)
class Words(Pieces):
    """The words of one record, the white space before each, and the one row of tokens that holds them.

    Attributes:
        texts: Words that the model read, in order; of a pair, first those of the first text.
        gaps: What stands before each word in the text.
        breaks: Positions of words that begin a second text.
        batch: One row; has ``word_of``, the word of each token (-1 for special tokens).
        num_unread: Words of the record that are not in this row: too long for the model.
        first: Position in the record of the first word here.
        span: First and last + 1 word of the entity that is explained, in the record.
    """

    noun: ClassVar[str] = "words"

    texts: list[str]
    gaps: list[str]
    breaks: list[int]
    batch: Batch
    num_unread: int = 0
    first: int = 0
    span: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def of_token(self) -> Tensor:
        """Word of each token, shape (tokens,)."""
        found: Tensor = self.batch[WORDS][0]
        return found

    def merged(self, scores: Tensor) -> list[float]:
        """Sums of token scores over each word."""
        place = self.of_token
        sums = torch.zeros(len(self.texts), dtype=torch.float64)
        sums.index_add_(0, place[place >= 0].cpu(), scores[place.to(scores.device) >= 0].double().cpu())
        return sums.tolist()

    def covered(self, hidden: Sequence[frozenset[int]]) -> Tensor:
        """Which tokens are of each of these sets of words, (variants, tokens)."""
        table = torch.zeros(len(hidden), len(self) + 1, dtype=torch.bool)
        for row, chosen in enumerate(hidden):
            table[row, list(chosen)] = True
        # -1, special tokens, takes the last column, which is never hidden
        return table[:, self.of_token]

    def hiding(self, task: Task, hidden: Sequence[frozenset[int]]) -> Tensor:
        """Token ids with the mask in place of each token of these words."""
        return torch.where(self.covered(hidden), hidden_id(task), self.batch["input_ids"][0])

    def explanation(self, scores: Tensor | None, **common: Any) -> WordExplanation:
        """The words with their scores."""
        return WordExplanation(
            words=self.texts,
            scores=[0.0] * len(self) if scores is None else self.merged(scores),
            gaps=self.gaps,
            breaks=self.breaks,
            span=None if self.span is None else (self.span[0] - self.first, self.span[1] - self.first),
            num_unread=self.num_unread,
            **common,
        )


def words_of(task: Task, record: Mapping[str, Any], example: Example, span: tuple[int, int] | None = None) -> Words:
    """Finds the words of a record and their tokens.

    Args:
        task: With a modality of tokens.
        record: By role: ``text`` and perhaps ``text_pair``, or ``tokens``.
        example: The processed record.
        span: First and last + 1 word that the explanation is about; chooses the window of a long sentence.
    """
    batch = task.collate([example])
    if "words" in example:
        return replace(tagged_words(example, batch, span), span=span)
    return _of_text(task, record, example, batch)


def tagged_words(example: Example, batch: Batch, span: Sequence[int] | None) -> Words:
    """Words of the window of a record for tagging in which `span` (the first and last + 1 word) begins."""
    windows = [example, *example.get("more", ())]
    row = next((i for i, w in enumerate(windows) if span and span[0] in w["word_index"]), 0)
    chosen = windows[row]
    pairs = zip(chosen["word_ids"], chosen["word_index"], strict=True)
    first = next((w - i for i, w in pairs if w >= 0), 0)
    place = torch.tensor([i if i < 0 else i + first for i in chosen["word_ids"]])
    kept = sorted({int(i) for i in place if i >= 0})
    own = {k: v[row : row + 1] for k, v in batch.items() if isinstance(v, Tensor)} | {"row_of": torch.zeros(1).long()}
    low, high = (kept[0], kept[-1] + 1) if kept else (0, 0)
    padded = torch.full((1, own["input_ids"].shape[1]), -1)
    padded[0, : len(place)] = torch.where(place >= 0, place - low, -1)
    texts, offsets = example["words"][low:high], example.get("offsets")
    apart = [offsets is None or offsets[i][0] > offsets[i - 1][1] for i in range(low + 1, high)]
    gaps = ["", *(" " if space else "" for space in apart)][: len(texts)]
    return Words(texts, gaps, [], own | {WORDS: padded}, len(example["words"]) - len(texts), low)


def _of_text(task: Task, record: Mapping[str, Any], example: Example, batch: Batch) -> Words:
    tokenizer = task.modality.hf  # type: ignore[attr-defined]
    sides = [record["text"], *([record["text_pair"]] if record.get("text_pair") else [])]
    encoded = tokenizer(
        *sides,
        truncation=True,
        max_length=task.modality.max_length,  # type: ignore[attr-defined]
        return_offsets_mapping=True,
    )
    if list(encoded["input_ids"]) != list(example["input_ids"]):
        raise DataError("The record's tokens do not match its text; the tokenizer of this run cannot be explained.")
    found = [list(_WORD.finditer(text)) for text in sides]
    starts = [{c: i for i, m in enumerate(words) for c in range(*m.span())} for words in found]
    pairs = [
        (side, starts[side].get(_first_char(sides[side], *chars)))
        for side, chars in zip(encoded.sequence_ids(), encoded["offset_mapping"], strict=True)
        if side is not None
    ]
    read = sorted({p for p in pairs if p[1] is not None})
    index = {pair: i for i, pair in enumerate(read)}
    walk = iter(pairs)
    place = [-1 if side is None else index.get(next(walk), -1) for side in encoded.sequence_ids()]
    texts = [found[side][i].group() for side, i in read]
    gaps = [_gap(sides[side], found[side], i) for side, i in read]
    breaks = [n for n, (side, _) in enumerate(read) if side == 1 and (n == 0 or read[n - 1][0] == 0)]
    return Words(texts, gaps, breaks, batch | {WORDS: torch.tensor([place])}, sum(map(len, found)) - len(read))


def _first_char(text: str, start: int, end: int) -> int:
    """The first character of a token that is not white space (byte-level tokens include the space before)."""
    return next((c for c in range(start, end) if not text[c].isspace()), start)


def _gap(text: str, words: Sequence[re.Match[str]], i: int) -> str:
    return text[words[i - 1].end() : words[i].start()] if i else text[: words[0].start()]
