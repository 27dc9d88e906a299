"""An explanation as data, in the terminal and as a page."""

from __future__ import annotations

__all__ = ["Explanation", "page", "write_page"]

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from rich.console import Group
from rich.text import Text

from pretune.faithfulness import Faithfulness

_LOOSE = 0.05
_STRONG = 0.55


@dataclass(frozen=True)
class Explanation:
    """Which words a prediction rests on.

    Attributes:
        words: Words that the model read.
        scores: One a word; positive speaks for the target, negative against it.
        target: What is explained: a label, the label of an entity, or ``value``.
        answer: The model's probability of the target (of an entity: of all its tags together), or its value.
        explainer: Name and options of the method.
        prediction: The whole prediction.
        gaps: White space before each word.
        breaks: Positions of words that begin a second text.
        span: First and last + 1 word of the entity that is explained, among `words`.
        delta: Completeness gap: sum of scores minus what they should sum to; None where there is no such sum.
        faithfulness: Comparison with random orders; None when not asked for or when there are too few words.
        num_unread: Words that were cut because the record is too long.
        note: Why there is nothing to show.
    """

    words: list[str]
    scores: list[float]
    target: str
    answer: float | None
    explainer: dict[str, Any]
    prediction: dict[str, Any]
    gaps: list[str] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    span: tuple[int, int] | None = None
    delta: float | None = None
    faithfulness: Faithfulness | None = None
    num_unread: int = 0
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        verdict = {"verdict": self.faithfulness.verdict} if self.faithfulness else {}
        return asdict(self) | verdict

    @property
    def strengths(self) -> list[float]:
        """Scores divided by the largest magnitude, -1 to 1."""
        most = max((abs(s) for s in self.scores), default=0.0) or 1.0
        return [s / most for s in self.scores]

    @property
    def signed(self) -> bool:
        """Whether the method can tell for from against."""
        return self.explainer["name"] != "attention"

    @property
    def heading(self) -> str:
        """The target and the model's answer."""
        if self.answer is None:
            return self.target
        if "value" in self.prediction:
            return f"{self.target} {self.answer:.4g}"
        what = f" “{self._entity()}”" if self.span else ""
        return f"{self.target}{what}: probability {self.answer:.1%}"

    def _entity(self) -> str:
        assert self.span is not None
        return " ".join(self.words[slice(*self.span)])

    @property
    def remarks(self) -> list[str]:
        """What one must know to read the scores."""
        found = [self.note] if self.note else []
        if not self.signed:
            found.append("Attention has no sign: it shows where the model looked, not what spoke for the answer.")
        total = abs(sum(self.scores))
        if self.delta is not None and abs(self.delta) > _LOOSE * max(total, 1e-9):
            found.append(f"Scores miss their sum by {self.delta:+.3g} of {total:.3g}: raise n_steps.")
        if self.num_unread:
            found.append(f"{self.num_unread} words were not read here: the record is too long for the model.")
        if self.faithfulness is not None:
            found.append(self.faithfulness.verdict)
        return found

    @property
    def figures(self) -> list[tuple[str, str, str]]:
        """Test, value, and that of random orders with its interval."""
        f = self.faithfulness
        if f is None:
            return []
        return [
            ("comprehensiveness ↑", _signed(f.comprehensiveness), _random(f.random_comprehensiveness)),
            ("sufficiency ↓", _signed(f.sufficiency), _random(f.random_sufficiency)),
        ]

    def render(self) -> Group:
        """For the terminal: words on blue speak for the target, on red against it."""
        body = Text()
        for i, (word, gap, strength) in enumerate(zip(self.words, self._gaps(), self.strengths, strict=True)):
            body.append("\n" if i in self.breaks else gap)
            inside = self.span is not None and self.span[0] <= i < self.span[1]
            body.append(word, style=_style(strength) + (" bold underline" if inside else ""))
        parts: list[Any] = [Text(self.heading, style="bold"), body]
        parts += [
            Text(f"{name} {value} (random orders {control})", style="dim") for name, value, control in self.figures
        ]
        return Group(*parts, *(Text(remark, style="italic") for remark in self.remarks))

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

    def bars(self) -> list[tuple[str, float]]:
        """Up to five most probable labels."""
        found = self.prediction.get("probabilities", {})
        return sorted(found.items(), key=lambda item: -item[1])[:5]


def _random(interval: Any) -> str:
    return f"{_signed(interval.value)} [{_signed(interval.low)}, {_signed(interval.high)}]"


def _signed(value: float) -> str:
    return f"{round(value, 3) or 0.0:+.3f}"


def _style(strength: float) -> str:
    if abs(strength) < 0.08:
        return ""
    fade = round(235 * (1 - abs(strength)))
    colour = (
        f"rgb({fade},{round(120 + fade * 0.5)},255)" if strength > 0 else f"rgb(255,{round(90 + fade * 0.6)},{fade})"
    )
    return f"black on {colour}"


def page(explanations: Sequence[Explanation], title: str = "Why the model says so") -> str:
    """A self-contained HTML page."""
    environment = Environment(loader=PackageLoader("pretune"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("explanation.html.j2").render(explanations=explanations, title=title)


def write_page(explanations: Sequence[Explanation], file: str | Path, title: str = "Why the model says so") -> Path:
    """Writes `page` atomically."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(page(explanations, title), encoding="utf-8")
    return part.replace(path)
