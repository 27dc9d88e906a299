"""How training went: curves, and whether it was healthy."""

from __future__ import annotations

__all__ = ["health_section", "pictures_section", "training_section"]

import io
import math
import statistics
from collections.abc import Sequence
from typing import Any

from PIL import Image

from pretune.page_figures import BLUE, DASHED, INK, SOFT, bare, inline_svg
from pretune.reporting.facts import Facts
from pretune.reporting.section import Section, metric_text, plural, render
from pretune.reporting.stages import Stage
from pretune.representation import collapsed

_JUMP = 10.0
"""Times the median norm that a gradient is far out with."""


def training_section(facts: Facts) -> Section | None:
    """Loss, validation and learning rate by step, of each run that is known."""
    if facts.stage is None:
        return None
    pictures = [p for s in [*reversed(facts.parents), facts.stage] for p in _curves(s, facts)]
    if not pictures:
        return None
    sentence = (
        "The loss is how wrong the model is while it learns: it should fall and then level off. "
        "Validation is on records that it did not learn from."
    )
    return Section("curves", "Learning curves", sentence, render("report_figures.html.j2", figures=pictures))


def _series(rows: Sequence[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    found = [(r["step"], r[key]) for r in rows if isinstance(r.get(key), int | float) and math.isfinite(r[key])]
    return [s for s, _ in found], [v for _, v in found]


def _curves(stage: Stage, facts: Facts) -> list[tuple[str, str]]:
    """Captions and figures."""
    if not _series(stage.rows, "loss")[0]:
        return []
    name = stage.path.resolve().name
    found = [(f"{name}: loss by step", _loss(stage))]
    primary = facts.predictor.task.primary if facts.predictor and stage.tuned else None
    if primary and _series(stage.rows, f"valid_{primary}")[0]:
        found.append(
            (f"{name}: {primary.replace('_', ' ')} on validation records by step", _validation(stage, primary))
        )
    found.append((f"{name}: learning rate by step", _rate(stage)))
    return found


def _loss(stage: Stage) -> str:
    figure, axes = bare(2.2)
    steps, loss = _series(stage.rows, "loss")
    axes.plot(steps, loss, color=SOFT, linewidth=1, label="training")
    watched = stage.lineage.get("floor_of") or "loss"
    held_steps, held = _series(stage.rows, f"valid_{watched}")
    said = f"training loss from {loss[0]:.3g} to {loss[-1]:.3g}"
    if held:
        axes.plot(held_steps, held, "o-", color=BLUE, linewidth=1.8, markersize=3.5, label="held out")
        said += f", held-out from {held[0]:.3g} to {held[-1]:.3g}"
    floor = stage.lineage.get("floor")
    if floor is not None:
        axes.axhline(floor, color=INK, linewidth=1, linestyle=DASHED, label="an answer that knows nothing")
        said += f"; an answer that knows nothing reaches {floor:.3g}"
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_xlim(left=0)
    if held or floor is not None:
        axes.legend(fontsize=8, frameon=False, labelcolor=SOFT, loc="upper right")
    return inline_svg(figure, said)


def _validation(stage: Stage, primary: str) -> str:
    figure, axes = bare(1.9)
    steps, values = _series(stage.rows, f"valid_{primary}")
    axes.plot(steps, values, "o-", color=BLUE, linewidth=1.8, markersize=3.5)
    best = max(range(len(values)), key=lambda i: values[i])
    axes.annotate(
        f"kept: {metric_text(primary, values[best])}",
        (steps[best], values[best]), (0, -14), textcoords="offset points", color=BLUE, fontsize=8,
        ha="right" if best > len(values) / 2 else "left",
    )  # fmt: skip
    axes.set_xlabel("step")
    axes.set_ylabel(primary.replace("_", " "))
    axes.set_xlim(left=0)
    return inline_svg(figure, f"{primary} on validation records, best {values[best]:.3g} at step {steps[best]}")


def _rate(stage: Stage) -> str:
    figure, axes = bare(1.2)
    steps, rates = _series(stage.rows, "lr")
    axes.plot(steps, rates, color=SOFT, linewidth=1.2)
    axes.set_xlabel("step")
    axes.set_ylabel("rate")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    return inline_svg(figure, f"learning rate, at most {max(rates, default=0):.3g}")


# -- health ------------------------------------------------------------------------------------------------------------


def health_section(facts: Facts) -> Section | None:
    """What can go wrong in training, and whether it did."""
    if facts.stage is None:
        return None
    found = [(s.path.resolve().name, _signs(s)) for s in [*reversed(facts.parents), facts.stage] if s.rows]
    if not found:
        return None
    bad = sum(not good for _, signs in found for good, _ in signs)
    sentence = (
        "Nothing went wrong while it trained." if not bad else f"{plural(bad, 'sign')} of trouble while it trained."
    )
    return Section("health", "Health of the training", sentence, render("report_health.html.j2", stages=found))


def _signs(stage: Stage) -> list[tuple[bool, str]]:
    """Whether each is good, and what it says."""
    found = [_finite(stage), _norms(stage), _collapse(stage), _floor(stage)]
    return [sign for sign in found if sign is not None]


def _finite(stage: Stage) -> tuple[bool, str]:
    bad = [r["step"] for r in stage.rows if any(isinstance(v, float) and not math.isfinite(v) for v in r.values())]
    saved = list(stage.path.glob("failed-step-*.safetensors"))
    if bad:
        return False, f"A number was not finite at step {bad[0]}."
    if saved:
        return False, f"A step failed, and its batch was kept: {saved[0].name}."
    return True, "All numbers stayed finite."


def _norms(stage: Stage) -> tuple[bool, str] | None:
    norms = _series(stage.rows, "grad_norm")[1]
    if not norms:
        return None
    middle, most = statistics.median(norms), max(norms)
    late = [n for n in norms[len(norms) // 4 :] if n > _JUMP * middle]
    limit = float(stage.recipe.get("max_grad_norm") or 0)
    cut = sum(n > limit for n in norms) / len(norms) if limit else 0.0
    clipped = f"; {cut:.0%} of the logged steps were scaled down to {limit:g}" if limit else ""
    said = f"The gradient's norm was {middle:.2g} in the middle and {most:.2g} at most{clipped}"
    return (
        (False, f"{said}: it jumped after the beginning, so a lower --lr may do better.")
        if late
        else (True, f"{said}.")
    )


def _collapse(stage: Stage) -> tuple[bool, str] | None:
    last = {k.removeprefix("valid_"): v for r in stage.rows for k, v in r.items() if k.startswith("valid_")}
    if not {"effective_rank", "spread"} <= last.keys():
        return None
    said = f"its vectors use {last['effective_rank']:.1f} directions"
    return (False, f"The encoder has collapsed: {said}.") if collapsed(last) else (True, f"No collapse: {said}.")


def _floor(stage: Stage) -> tuple[bool, str] | None:
    floor = stage.lineage.get("floor")
    held = _series(stage.rows, f"valid_{stage.lineage.get('floor_of') or 'loss'}")[1]
    if floor is None or not held:
        return None
    who = stage.lineage.get("floor_what") or "an answer that knows nothing"
    if held[-1] < floor:
        return True, f"It learnt more than {who}: held-out loss {held[-1]:.3f}, against {floor:.3f}."
    return False, f"It did not learn more than {who}: held-out loss {held[-1]:.3f}, against {floor:.3f}."


def pictures_section(facts: Facts) -> Section | None:
    """Pictures that a run left: reconstructions, samples."""
    if facts.stage is None:
        return None
    found = []
    for stage in [*reversed(facts.parents), facts.stage]:
        for file in sorted((stage.path / "pictures").glob("*.png")):
            address = facts.room.take(small_png(file.read_bytes()), "image/png")
            if address is not None:
                found.append((f"{stage.path.resolve().name}: {file.stem.replace('_', ' ')}", address))
    if not found:
        return None
    sentence = "What pre-training drew at its end, for instance what it makes of hidden parts of an input."
    return Section("pictures", "Pictures", sentence, render("report_pictures.html.j2", pictures=found))


_WIDE, _HEAVY = 1000, 700_000


def small_png(content: bytes) -> bytes:
    """The same picture; a heavy one at most 1,000 pixels wide."""
    if len(content) <= _HEAVY:
        return content
    with Image.open(io.BytesIO(content)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((_WIDE, _WIDE))
    file = io.BytesIO()
    small.save(file, format="png", optimize=True)
    return file.getvalue()
