"""What every explanation has, and explanations as a page."""

from __future__ import annotations

__all__ = ["Explanation", "Verdict", "environment", "figures_of", "page", "part", "write_page"]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from jinja2 import Environment, PackageLoader, Template
from rich.console import Group
from rich.text import Text

from pretune.checkpoint import write_text

if TYPE_CHECKING:
    from PIL import Image

    from pretune.curves import Curve
    from pretune.faithfulness import Faithfulness
    from pretune.nearest_examples import NearestExamples
    from pretune.sanity import Sanity

_LOOSE = 0.05
_STYLES = {"good": "italic", "unsure": "italic yellow", "bad": "bold red"}


@dataclass(frozen=True)
class Verdict:
    """What a test says of an explanation, in a sentence, and whether that is ``good``, ``unsure`` or ``bad``."""

    text: str
    level: str

    @classmethod
    def of(cls, tested: Faithfulness, before: str = "") -> Verdict:
        """That of a comparison with random orders."""
        levels = {"better": "good", "no better": "bad"}
        return cls(before + tested.verdict, levels.get(tested.level, "unsure"))

    @property
    def style(self) -> str:
        """How it looks in the terminal."""
        return _STYLES[self.level]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a prediction rests on.

    Attributes:
        target: What is explained: a label, the label of an entity, or ``value``.
        answer: The model's probability of the target (of an entity: of all its tags together), or its value.
        explainer: Name and options of the method.
        prediction: The whole prediction.
        delta: Completeness gap: sum of scores minus what they should sum to; None where there is no such sum.
        group: What an overview of many records counts it to: a class, without the place of an entity or box.
        faithfulness: Comparison with random orders; None when not asked for or when there are too few pieces.
        sanity: Comparison with models of random weights; None when not asked for.
        note: Why there is nothing to show.
        nearest: What the record is near to, where that was asked for.
    """

    kind: ClassVar[str]
    """``words``, ``patches``, ``sound`` or ``sequence``: how the page shows it."""

    drawn: ClassVar[bool] = False
    """Whether it has `panels`."""

    target: str
    answer: float | None
    explainer: dict[str, Any]
    prediction: dict[str, Any]
    delta: float | None = None
    group: str = ""
    faithfulness: Faithfulness | None = None
    sanity: Sanity | None = None
    note: str | None = None
    nearest: NearestExamples | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        raise NotImplementedError

    @property
    def near(self) -> dict[str, Any]:
        """What `to_dict` says of neighbours: nothing, or ``nearest``."""
        return {} if self.nearest is None else {"nearest": self.nearest.to_dict()}

    @property
    def total(self) -> float:
        """Sum of the scores."""
        raise NotImplementedError

    def body(self) -> Any:
        """The scored record, for the terminal."""
        raise NotImplementedError

    def panels(self) -> list[Image.Image]:
        """Pictures of it, side by side; none of words."""
        return []

    @classmethod
    def together(cls, explanations: Sequence[Self]) -> list[tuple[str, str]]:
        """Pictures of all explanations of a page: captions and ``data:`` addresses."""
        return []

    @property
    def subject(self) -> str:
        """What the target is said of, in quotes and with a space before it; empty for the whole record."""
        return ""

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
        return f"{self.target}{self.subject}: probability {self.answer:.1%}"

    @property
    def remarks(self) -> list[str]:
        """What one must know to read the scores."""
        found = [self.note] if self.note else []
        if not self.signed:
            found.append("Attention has no sign: it shows where the model looked, not what spoke for the answer.")
        total = abs(self.total)
        if self.delta is not None and abs(self.delta) > _LOOSE * max(total, 1e-9):
            found.append(f"Scores miss their sum by {self.delta:+.3g} of {total:.3g}: raise n_steps.")
        return found + self.omissions

    @property
    def verdicts(self) -> list[Verdict]:
        """What the tests say of it."""
        found = [] if self.faithfulness is None else [Verdict.of(self.faithfulness)]
        if self.sanity is not None:
            level = {True: "good", False: "bad", None: "unsure"}[self.sanity.passed]
            found.append(Verdict(self.sanity.verdict, level))
        return found

    @property
    def reliable(self) -> bool | None:
        """False when it is no better than random or fails the sanity check; None when nothing could be tested."""
        if any(v.level == "bad" for v in self.verdicts):
            return False
        return True if any(v.level == "good" for v in self.verdicts) else None

    @property
    def tests(self) -> dict[str, Any]:
        """The JSON-able part of `to_dict` that says how far it can be trusted."""
        tested = self.faithfulness
        facts = {"faithfulness": tested and tested.to_dict(), "sanity": self.sanity and self.sanity.to_dict()}
        return facts | {"verdict": " ".join(v.text for v in self.verdicts) or None, "reliable": self.reliable}

    @property
    def omissions(self) -> list[str]:
        """What of the record the model did not read."""
        return []

    @property
    def figures(self) -> list[tuple[str, str, str]]:
        """Test, value, and that of random orders with its interval."""
        return figures_of(self.faithfulness) if self.faithfulness is not None else []

    @property
    def curves(self) -> list[tuple[str, str, Curve]]:
        """Name, what happens along it, and the curve."""
        if self.faithfulness is None:
            return []
        noun, tested = self.faithfulness.noun, self.faithfulness
        deletion = ("deletion area ↓", f"share of {noun} hidden, highest score first", tested.deletion)
        return [deletion, ("insertion area ↑", f"share of {noun} shown, highest score first", tested.insertion)]

    def render(self) -> Group:
        """For the terminal: blue speaks for the target, red against it."""
        parts: list[Any] = [Text(self.heading, style="bold"), self.body()]
        parts += [
            Text(f"{name} {value} (random orders {control})", style="dim") for name, value, control in self.figures
        ]
        parts += [Text(_curve_line(name, curve), style="dim") for name, _, curve in self.curves]
        parts += [Text(remark, style="italic") for remark in self.remarks]
        parts += [Text(v.text, style=v.style) for v in self.verdicts]
        return Group(*parts, *([] if self.nearest is None else [self.nearest.render()]))

    def bars(self) -> list[tuple[str, float]]:
        """Up to five most probable labels."""
        found = self.prediction.get("probabilities", {})
        return sorted(found.items(), key=lambda item: -item[1])[:5]


def figures_of(tested: Faithfulness) -> list[tuple[str, str, str]]:
    """Each test's name, value, and that of random orders with its interval."""
    return [
        ("comprehensiveness ↑", _signed(tested.comprehensiveness), _random(tested.random_comprehensiveness)),
        ("sufficiency ↓", _signed(tested.sufficiency), _random(tested.random_sufficiency)),
    ]


def _curve_line(name: str, curve: Curve) -> str:
    random = curve.random_area
    areas = f"{curve.area:.3f} (random orders {random.value:.3f} [{random.low:.3f}, {random.high:.3f}])"
    return f"{name} {areas} {curve.sparkline(curve.answers)} vs {curve.sparkline(curve.random_answers)}"


def _random(interval: Any) -> str:
    return f"{_signed(interval.value)} [{_signed(interval.low)}, {_signed(interval.high)}]"


def _signed(value: float) -> str:
    return f"{round(value, 3) or 0.0:+.3f}"


def environment() -> Environment:
    """What renders the pages in ``templates``."""
    return Environment(loader=PackageLoader("pretune"), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def page(explanations: Sequence[Explanation], title: str = "Why the model says so") -> str:
    """A self-contained HTML page."""
    return _template().render(
        explanations=explanations, title=title, shared=explanations[0].together(explanations) if explanations else []
    )


def part(explanations: Sequence[Explanation]) -> tuple[str, str]:
    """The style sheet of `page`, and the explanations as HTML, for another page to hold."""
    template = _template()
    context = template.new_context({"explanations": explanations})
    style, articles = ("".join(template.blocks[name](context)) for name in ("style", "articles"))
    return style, articles


def _template() -> Template:
    return environment().get_template("explanation.html.j2")


def write_page(explanations: Sequence[Explanation], file: str | Path, title: str = "Why the model says so") -> Path:
    """Writes `page` atomically."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page(explanations, title))
    return path
