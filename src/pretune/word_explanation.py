"""An explanation by words, as data, in the terminal and for the page."""

from __future__ import annotations

__all__ = ["WordExplanation", "word_style"]

from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from rich.text import Text

from pretune.explanation import Explanation

_STRONG = 0.55


@dataclass(frozen=True, kw_only=True)
class WordExplanation(Explanation):
    """Which words a prediction rests on.

    Attributes:
        words: Words that the model read.
        scores: One a word; positive speaks for the target, negative against it.
        gaps: White space before each word.
        breaks: Positions of words that begin a second text.
        span: First and last + 1 word of the entity that is explained, among `words`.
        num_unread: Words that were cut because the record is too long.
    """

    kind: ClassVar[str] = "words"

    words: list[str]
    scores: list[float]
    gaps: list[str] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    span: tuple[int, int] | None = None
    num_unread: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(replace(self, nearest=None)) | self.tests | self.near

    @property
    def total(self) -> float:
        """Sum of the scores."""
        return sum(self.scores)

    @property
    def strengths(self) -> list[float]:
        """Scores divided by the largest magnitude, -1 to 1."""
        most = max((abs(s) for s in self.scores), default=0.0) or 1.0
        return [s / most for s in self.scores]

    @property
    def subject(self) -> str:
        """The entity."""
        return f" “{' '.join(self.words[slice(*self.span)])}”" if self.span else ""

    @property
    def omissions(self) -> list[str]:
        """Words that were cut."""
        if not self.num_unread:
            return []
        return [f"{self.num_unread} words were not read here: the record is too long for the model."]

    def body(self) -> Text:
        """The text, its words on blue or red by their score."""
        body = Text()
        for i, (word, gap, strength) in enumerate(zip(self.words, self._gaps(), self.strengths, strict=True)):
            body.append("\n" if i in self.breaks else gap)
            inside = self.span is not None and self.span[0] <= i < self.span[1]
            body.append(word, style=word_style(strength) + (" bold underline" if inside else ""))
        return body

    def _gaps(self) -> list[str]:
        return self.gaps or ["", *([" "] * (len(self.words) - 1))][: len(self.words)]

    def pieces(self) -> list[dict[str, Any]]:
        """Words as the page shows them."""
        return [
            {
                "text": word,
                "gap": gap,
                "score": score,
                "share": round(abs(strength) * 100 * _STRONG, 1),
                "sign": "for" if score >= 0 else "against",
                "break": i in self.breaks,
                "entity": self.span is not None and self.span[0] <= i < self.span[1],
            }
            for i, (word, gap, score, strength) in enumerate(
                zip(self.words, self._gaps(), self.scores, self.strengths, strict=True)
            )
        ]


def word_style(strength: float) -> str:
    """Blue or red behind a word of this strength, -1 to 1, for the terminal."""
    if abs(strength) < 0.08:
        return ""
    fade = round(235 * (1 - abs(strength)))
    colour = (
        f"rgb({fade},{round(120 + fade * 0.5)},255)" if strength > 0 else f"rgb(255,{round(90 + fade * 0.6)},{fade})"
    )
    return f"black on {colour}"
