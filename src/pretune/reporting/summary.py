"""The top of the page: what was found, and what the model was made from."""

from __future__ import annotations

__all__ = ["lineage_section", "title_of", "verdict_section"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretune.lineage import loss_and_floor
from pretune.reporting.facts import Facts
from pretune.reporting.measured import Measured
from pretune.reporting.section import Section, duration, metric_text, points, render
from pretune.reporting.stages import Stage, name_of


def title_of(facts: Facts) -> tuple[str, str]:
    """Title and the line below it."""
    stage = facts.stage
    if stage is None:
        study = facts.study or {}
        what = " ".join(str(study[k]) for k in ("modality", "task") if study.get(k))
        return f"Study: {facts.path.resolve().name}", str(study.get("question") or what)
    name, kind = facts.path.resolve().name, stage.modality
    finished = str(stage.lineage.get("finished", ""))[:10]
    if stage.tuned:
        return f"{name}: {name_of(stage.recipe['task'])} of {_NOUNS.get(kind, kind)}", f"Fine-tuned run of {finished}."
    return f"{name}: an encoder of {_NOUNS.get(kind, kind)}", f"Pre-trained run of {finished}."


_NOUNS = {"text": "text", "image": "images", "audio": "sound", "dna": "DNA", "protein": "proteins"}


def verdict_section(facts: Facts) -> Section | None:
    """Whether it was worth it, from a study; else what the run itself can say."""
    sentences, tone = _study_says(facts.study)
    if facts.measured is not None:
        said, own = _test_says(facts.measured, facts)
        sentences, tone = [*sentences, said], tone if facts.study else own
    elif facts.stage is not None and not sentences:
        said, tone = _run_says(facts, facts.stage)
        sentences = [said]
    if not sentences:
        return None
    return Section("verdict", "Verdict", "", render("report_verdict.html.j2", sentences=sentences, tone=tone))


def _study_says(study: Mapping[str, Any] | None) -> tuple[list[str], str]:
    if not study:
        return [], ""
    found = [str(study["verdict"])] if study.get("verdict") else []
    found += [str(v) for v in study.get("verdicts", []) if str(v) not in found]
    clear = [c for c in study.get("comparisons", []) if isinstance(c, dict) and c.get("clear")]
    signs = {c.get("difference", 0) > 0 for c in clear if c.get("against") == "scratch"}
    better = bool(study.get("higher_is_better", True))
    return found, ("good" if signs == {better} else "bad" if signs == {not better} else "")


def _test_says(measured: Measured, facts: Facts) -> tuple[str, str]:
    assert facts.predictor is not None
    name, found = facts.predictor.task.primary, measured.evaluation
    value, interval = found.metrics[name], found.intervals.get(name)
    around = f" [{metric_text(name, interval.low)}, {metric_text(name, interval.high)}]" if interval else ""
    said = f"On {found.num_records:,} held-out records, {_named(name)} is {metric_text(name, value)}{around}"
    if measured.trivial is None:
        return (f"{said}.", "") if value else (f"{said}: nothing that it finds is right. Train longer.", "bad")
    what, floor = measured.trivial
    said = f"{said}; {what} gives {metric_text(name, floor)}"
    low, high = (measured.gain.low, measured.gain.high) if measured.gain and name == "accuracy" else (None, None)
    if low is None or high is None:
        if interval is None:
            return f"{said}.", ""
        low, high = interval.low - floor, interval.high - floor
    difference = points(name, value - floor, low, high, level=found.level)
    if low > 0:
        return f"{said}. The model knows clearly more than that ({difference}).", "good"
    if high < 0:
        return f"{said}. The model does clearly worse than that ({difference}).", "bad"
    return f"{said}. It is not clear that the model knows more than that ({difference}).", ""


def _run_says(facts: Facts, stage: Stage) -> tuple[str, str]:
    """From what the run left, without test data at hand."""
    metrics = {k: v for k, v in stage.lineage.get("metrics", {}).items() if isinstance(v, int | float)}
    if facts.stored is not None and facts.predictor is not None:
        name = facts.predictor.task.primary
        value, interval = facts.stored["metrics"].get(name), facts.stored.get("intervals", {}).get(name)
        around = f" [{metric_text(name, interval['low'])}, {metric_text(name, interval['high'])}]" if interval else ""
        if value is not None:
            said = f"On {facts.stored['num_records']:,} held-out records, {_named(name)} was {metric_text(name, value)}"
            return f"{said}{around} when the run ended.", ""
    if stage.tuned:
        shown = ", ".join(f"{_named(k)} {metric_text(k, v)}" for k, v in metrics.items())
        return f"There are no held-out results. On validation data, which chose the weights: {shown or 'nothing'}.", ""
    found = loss_and_floor(stage.lineage)
    if found is None:
        return "The encoder is trained; what it is worth, fine-tuning and a study can tell.", ""
    loss, floor = found
    who = stage.lineage.get("floor_what") or "an answer that knows nothing"
    where = "below" if loss < floor else "above"
    meaning = "it has learnt more than that" if loss < floor else "it has not learnt more than that: train longer"
    said = f"The held-out loss ended at {loss:.3f}, {where} the {floor:.3f} of {who}: {meaning}."
    return f"{said} What that is worth, fine-tuning and a study can tell.", "good" if loss < floor else "bad"


def _named(metric: str) -> str:
    return metric.replace("_", " ")


def lineage_section(facts: Facts) -> Section | None:
    """What the model was made from, in words, oldest first."""
    if facts.stage is None:
        return None
    stages = [*reversed(facts.parents), facts.stage]
    steps = [_origin(stages[0]), *(_step(s) for s in stages)]
    sentence = "How this model came to be, in the order in which it happened."
    return Section("lineage", "What it was made from", sentence, render("report_steps.html.j2", steps=steps))


def _origin(stage: Stage) -> str:
    source = stage.source
    if source is not None:
        return f"It starts from {Path(source).name}, which was made before ({source})."
    given = (stage.lineage.get("parent") or {}).get("source")
    like = f" of the architecture of {Path(given).name}" if given else ""
    return f"It starts from random weights{like}, which know nothing."


def _step(stage: Stage) -> str:
    facts = stage.lineage
    spent = f"{facts.get('steps', 0):,} steps, {duration(float(facts.get('seconds', 0)))}"
    data = stage.recipe.get("data")
    if not stage.tuned:
        objective = name_of(stage.recipe.get("objective", "an objective"))
        return f"{stage.path.resolve().name}: pre-trained without labels by {objective} on {data} ({spent})."
    how = name_of(stage.recipe.get("strategy", "full"))
    task = name_of(stage.recipe["task"])
    return f"{stage.path.resolve().name}: fine-tuned with labels for {task} on {data}, strategy {how} ({spent})."
