"""The demo's page: what was done, what it cost, and whether pre-training was worth it."""

from __future__ import annotations

__all__ = [
    "TEXT",
    "Cost",
    "Curve",
    "Data",
    "DemoResult",
    "Example",
    "Measured",
    "System",
    "Wording",
    "picture_of",
    "render_demo",
    "verdict",
]

from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import ArrayLike, NDArray

from pretune.checkpoint import write_text
from pretune.differences import Scores, mean_score
from pretune.errors import DataError
from pretune.intervals import LEVEL, Interval, bootstrap, paired_difference, resampled_indices
from pretune.page_figures import BLUE, DASHED, INK, SOFT, bare, data_address, inline_svg


class Wording(TypedDict):
    """What the page calls things; see `TEXT` for an example."""

    items: str
    """What is classified, in the plural."""
    documents: str
    """What the unlabelled data is made of, in the plural."""
    baseline: str
    """The classical method in full."""
    short: str
    """And in short."""
    seen: str
    """What pre-training counts, in the plural."""
    loss: str
    floor: str
    """Who reaches the floor of the loss."""
    gained: str
    """What a loss below the floor shows."""


TEXT: Wording = {
    "items": "texts",
    "documents": "documents",
    "baseline": "TF-IDF + logistic regression",
    "short": "TF-IDF",
    "seen": "tokens",
    "loss": "loss, nats a masked token",
    "floor": "word frequencies alone",
    "gained": "learnt from context",
}


class Data(TypedDict):
    """The data card."""

    num_documents: int
    """Documents (or pictures) of the unlabelled corpus."""
    corpus_bytes: int
    num_train: int
    """Labelled records, all classes together."""
    num_test: int
    held_out: str
    """One sentence: how the test texts were kept apart."""


class Cost(TypedDict):
    """What was spent."""

    budget: str
    """As given, e.g. ``"60s"``."""
    device: str
    num_parameters: int
    num_tokens: int
    """Tokens seen in pre-training."""
    pretrain_seconds: float
    finetune_seconds: float
    """One fine-tuning run."""
    baseline_seconds: float


class Curve(TypedDict):
    """The pre-training loss."""

    tokens: list[int]
    loss: list[float]
    floor: float | None
    """What something that has hardly learnt reaches: for text the unigram entropy of the corpus."""


class System(TypedDict):
    """One of the compared systems."""

    name: str
    correct: list[list[bool]]
    """Whether each test text was right, shape (seeds, texts); texts in the same order for every system."""


class Example(TypedDict):
    """One explained prediction."""

    label: str
    predicted: str
    probability: float
    words: NotRequired[list[str]]
    scores: NotRequired[list[float]]
    """One a word; positive speaks for the prediction."""
    pictures: NotRequired[list[tuple[str, str]]]
    """What each shows, and its ``data:`` address."""


class Measured(TypedDict):
    """What a page says of every demo in the same way."""

    labels: list[str]
    cost: Cost
    curve: Curve
    own: System
    scratch: System
    baseline: System
    confusion: list[list[int]]
    """Test records by true and predicted label of `own`, shape (labels, labels), all seeds together."""


class DemoResult(Measured):
    """All that the page shows."""

    title: str
    question: str
    """The labelled task as a question."""
    steps: list[str]
    """What was done, a sentence a step."""
    command: str
    """The command that reproduces all of it."""
    data: Data
    example: Example
    wording: Wording
    pictures: list[tuple[str, str]]
    """Further pictures: what each shows, and its ``data:`` address."""


def verdict(
    own: ArrayLike, scratch: ArrayLike, baseline: ArrayLike, *, classical: str = "TF-IDF + logistic regression"
) -> str:
    """Says plainly whether pre-training was worth it.

    Differences are paired, with 95% intervals over seeds and test texts (see `differences`), of one seed over texts
    alone; one system is called better only when the interval excludes zero.

    Args:
        own: Whether each test text was right (1 or 0), shape (seeds, texts) or (texts,): pre-trained here.
        scratch: The same for the same model without pre-training.
        baseline: The same for the classical method.
        classical: Its name.

    Raises:
        DataError: The three do not have the same texts.
    """
    ours, theirs, simple = _per_text(own), _per_text(scratch), _per_text(baseline)
    gain, margin = _gain(own, scratch), _gain(own, baseline)
    first = {
        1: "Pre-training paid",
        0: "Pre-training made no clear difference",
        -1: "Pre-training hurt",
    }[_sign(gain)]
    second = {
        1: f"It {'also ' if _sign(gain) > 0 else ''}beats {classical}",
        0: f"{classical}, which takes seconds, is as good within the interval",
        -1: f"{classical}, which takes seconds, does better",
    }[_sign(margin)]
    return (
        f"{first}: {_percent(ours)} right against {_percent(theirs)} from scratch ({_points(gain)}). "
        f"{second}: {_percent(simple)} ({_points(margin)})."
    )


def _gain(first: ArrayLike, second: ArrayLike) -> Interval:
    a, b = np.atleast_2d(np.asarray(first, float)), np.atleast_2d(np.asarray(second, float))
    if len(a) < 2 or a.shape != b.shape:
        return paired_difference(_per_text(a), _per_text(b))
    apart = a - b
    draws = np.concatenate([apart[:, rows].mean(2) for rows in resampled_indices(apart.shape[1])], axis=1)
    found = mean_score(Scores(apart.mean(1), draws), LEVEL)
    return Interval(found.value, found.low, found.high, LEVEL, "seeds_and_records", found.n)


def picture_of(file: Path) -> tuple[str, str]:
    """What a picture of a pre-training run shows, and its ``data:`` address."""
    return f"pre-training: {file.stem.replace('_', ' ')}", data_address(file.read_bytes(), "image/png")


def render_demo(result: DemoResult, out: Path) -> Path:
    """Writes the page: one HTML file without scripts or outside references.

    Args:
        result: See `DemoResult`.
        out: The file to write.

    Returns:
        `out`.

    Raises:
        DataError: The systems were not tested on the same texts.
    """
    systems = [result["own"], result["scratch"], result["baseline"]]
    correct = [s["correct"] for s in systems]
    environment = Environment(loader=PackageLoader("pretune"), autoescape=True, trim_blocks=True)
    wording = result["wording"]
    page = environment.get_template("demo.html.j2").render(
        r=result,
        w=wording,
        verdict=verdict(*correct, classical=wording["baseline"]),
        accuracies=[(s["name"], bootstrap(_per_text(s["correct"]))) for s in systems],
        num_seeds=len(result["own"]["correct"]),
        accuracy_picture=_accuracy_picture(systems, len(result["labels"]), wording["items"]),
        loss_picture=_loss_picture(result["curve"], wording),
        recalls=_recalls(result["confusion"]),
        strengths=_strengths(result["example"].get("scores", [])),
        worth=_sign(_gain(correct[0], correct[1])),
    )
    write_text(out, page)
    return out


def _per_text(correct: ArrayLike) -> NDArray[np.float64]:
    """Share of the seeds that were right, shape (texts,)."""
    try:
        return np.atleast_2d(np.asarray(correct, dtype=np.float64)).mean(axis=0)
    except ValueError as error:
        raise DataError("Every seed needs the same test texts, found rows of different lengths.") from error


def _sign(difference: Interval) -> int:
    """1 or -1 when the interval excludes zero, else 0."""
    return int(np.sign(difference.value)) if difference.excludes(0.0) else 0


def _percent(correct: NDArray[np.float64]) -> str:
    return f"{100 * correct.mean():.1f}%"


def _points(difference: Interval) -> str:
    value, low, high = (100 * x for x in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} points, 95% interval {low:+.1f} to {high:+.1f}"


def _recalls(confusion: Sequence[Sequence[int]]) -> list[list[float]]:
    """Each row divided by its sum, in percent."""
    return [[100 * n / max(sum(row), 1) for n in row] for row in confusion]


def _strengths(scores: Sequence[float]) -> list[float]:
    """Scores divided by the largest magnitude, -1 to 1."""
    most = max(map(abs, scores), default=0.0) or 1.0
    return [s / most for s in scores]


def _accuracy_picture(systems: Sequence[System], num_labels: int, items: str) -> str:
    """Dots with whiskers for the systems, small dots for seeds, and a line at chance."""
    figure, axes = bare(2.1)
    for row, system in enumerate(reversed(systems)):
        interval = bootstrap(_per_text(system["correct"]))
        colour = BLUE if system is systems[0] else INK
        low, value, high = (100 * x for x in (interval.low, interval.value, interval.high))
        seeds = [100 * float(np.mean(s)) for s in system["correct"]]
        if len(seeds) > 1:
            axes.plot(seeds, [row - 0.28] * len(seeds), "o", color=SOFT, markersize=2.5)
        axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot([value], [row], "o", color=colour, markersize=7)
        axes.text(value, row + 0.2, f"{value:.1f}%", color=colour, ha="center", va="bottom", fontsize=9)
    chance = 100 / num_labels
    axes.axvline(chance, color=SOFT, linewidth=1, linestyle=DASHED)
    axes.text(chance + 1, -0.45, "chance", color=SOFT, fontsize=8)
    axes.set_yticks(range(len(systems)), [s["name"] for s in reversed(systems)])
    axes.set_ylim(-0.6, len(systems) - 0.4)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"test {items} right, %")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return inline_svg(figure, "Accuracy of each system with its interval")


def _loss_picture(curve: Curve, wording: Wording) -> str:
    """Loss by what was seen, with the floor as a line."""
    figure, axes = bare(2.4)
    axes.plot(np.asarray(curve["tokens"]) / 1e6, curve["loss"], color=BLUE, linewidth=1.8)
    if (floor := curve["floor"]) is not None:
        axes.axhline(floor, color=SOFT, linewidth=1, linestyle=DASHED)
        axes.annotate(
            f"{wording['floor']}: {floor:.2f}",
            (0.99, floor),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            color=SOFT,
            fontsize=8,
            ha="right",
        )
    axes.set_xlabel(f"million {wording['seen']} seen")
    axes.set_ylabel(wording["loss"])
    axes.set_xlim(left=0)
    return inline_svg(figure, f"Pre-training loss by {wording['seen']} seen")
