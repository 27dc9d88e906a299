"""An explanation by letters of a sequence, as data, in the terminal, as a logo and for the page."""

from __future__ import annotations

__all__ = ["ROW", "SequenceExplanation"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from PIL import Image
from rich.text import Text

from pretune.explanation import Verdict, figures_of
from pretune.faithfulness import Faithfulness
from pretune.heat_map import address_of
from pretune.word_explanation import WordExplanation, word_style

ROW = 80
"""Letters a row."""


@dataclass(frozen=True, kw_only=True)
class SequenceExplanation(WordExplanation):
    """Which letters of DNA or a protein a prediction rests on; `words` are its letters, k-mers or byte pairs.

    Attributes:
        alphabet: ``DNA`` or ``protein``.
        first: Letters of the record before the first one here.
        both_strands: Whether the prediction, but not this explanation, is the mean over both strands.
        substitutes: Letters of the columns of `mutations`.
        mutations: Change of the target when a letter is replaced by each other one, (letters, substitutes); 0 for
            its own. None unless the explainer is mutagenesis.
        shuffled: As `faithfulness`, but letters are hidden behind those of dinucleotide shuffles.
    """

    kind: ClassVar[str] = "sequence"
    drawn: ClassVar[bool] = True

    alphabet: str = "DNA"
    first: int = 0
    both_strands: bool = False
    substitutes: list[str] | None = None
    mutations: list[list[float]] | None = None
    shuffled: Faithfulness | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, with the whole table of mutations."""
        return super().to_dict() | {"shuffled": self.shuffled and self.shuffled.to_dict()}

    @property
    def noun(self) -> str:
        """What its pieces are called."""
        return "letters" if all(len(w) == 1 for w in self.words) else "tokens"

    @property
    def subject(self) -> str:
        """The letters that the target is said of, and where they are, counted from 1."""
        if self.span is None:
            return ""
        low, high = (self.first + i for i in self.span)
        return f" “{''.join(self.words[slice(*self.span)])}” ({low + 1}–{high})"

    @property
    def omissions(self) -> list[str]:
        """What was not read, the strand, and what the scores are."""
        found = []
        if self.num_unread:
            found.append(f"{self.num_unread} letters were not read here: the record is too long for the model.")
        if self.span is not None and self.span[1] - self.span[0] > 1:
            found.append("The probability is the geometric mean over these letters.")
        if self.both_strands:
            found.append("The forward strand is explained; the prediction is the mean over both strands.")
        if self.mutations is not None:
            how = "largest fall" if self.explainer.get("drop") == "max" else "mean fall"
            found.append(f"A letter's score is the {how} of the target over its {self._others} substitutions.")
        return found

    @property
    def verdicts(self) -> list[Verdict]:
        """Those of every explanation, and that of shuffled letters."""
        found = super().verdicts
        if self.shuffled is not None:
            found.insert(1, Verdict.of(self.shuffled, "Hidden behind shuffled letters instead of the mask: "))
        return found

    @property
    def _others(self) -> int:
        return len(self.substitutes or ()) - 1

    @property
    def figures(self) -> list[tuple[str, str, str]]:
        """Those of the mask, then those of shuffled letters."""
        further = figures_of(self.shuffled) if self.shuffled else []
        return super().figures + [(f"{name} (shuffles)", value, control) for name, value, control in further]

    @property
    def letters(self) -> list[tuple[str, float]]:
        """Single letters with their scores; those of a k-mer share its score."""
        return [(c, s / len(word)) for word, s in zip(self.words, self.scores, strict=True) for c in word]

    def body(self) -> Text:
        """The sequence, 80 letters a row, on blue or red by their score."""
        body, column = Text(), 0
        for i, (word, strength) in enumerate(zip(self.words, self.strengths, strict=True)):
            if column + len(word) > ROW:
                body.append("\n")
                column = 0
            inside = self.span is not None and self.span[0] <= i < self.span[1]
            body.append(word, style=word_style(strength) + (" bold underline" if inside else ""))
            column += len(word)
        return body

    def panels(self) -> list[Image.Image]:
        """The logo, with the heat map of mutations where there is one."""
        from pretune.sequence_picture import draw

        return [draw(self)]

    def logo(self) -> str:
        """The picture as a ``data:`` address."""
        return address_of(self.panels()[0])

    @classmethod
    def together(cls, explanations: Sequence[Self]) -> list[tuple[str, str]]:
        """Logos of the motifs that several records share: captions and ``data:`` addresses."""
        from pretune.motifs import draw_motif, motifs_of

        return [(m.caption, address_of(draw_motif(m))) for m in motifs_of(explanations)]
