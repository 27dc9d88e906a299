"""What the model is not for, and what is needed to make it again."""

from __future__ import annotations

__all__ = ["limits_section", "reproduce_section"]

from pretune.reporting.commands import command_of
from pretune.reporting.facts import Facts
from pretune.reporting.section import Section, render
from pretune.reporting.stages import Stage

_MEMORY = "in memory: "


def limits_section(facts: Facts) -> Section | None:
    """Intended use and limits, from what is known."""
    stage = facts.stage
    if stage is None:
        return None
    found = [
        "It is meant for records like those that it learnt from; on others, the figures of this page do not hold.",
        "It answers every record, also one that makes no sense to it."
        if stage.tuned
        else "It gives vectors, not answers: fine-tune it on labels before it decides anything.",
    ]
    if stage.tuned and facts.measured is None and facts.stored is None:
        found.append("Without held-out results nobody knows how good it is: measure it before it is used.")
    if facts.measured is not None and facts.measured.evaluation.num_records < _FEW:
        number = facts.measured.evaluation.num_records
        found.append(f"It was tested on {number:,} records only, so its intervals are wide.")
    found.append(
        "pretune does not know whether the data holds anything against people, nor whether this use is allowed: "
        "that is for those who use it to judge."
    )
    return Section(
        "limits", "Limits and intended use", "What this model should not be trusted with.",
        render("report_list.html.j2", items=found),
    )  # fmt: skip


_FEW = 200


def reproduce_section(facts: Facts) -> Section | None:
    """Commands, versions, seeds and fingerprints."""
    stages = [*reversed(facts.parents), facts.stage] if facts.stage else []
    commands = [c for s in stages if (c := _command(s, facts)) is not None]
    study = facts.study or {}
    if isinstance(study.get("command"), str):
        commands.append(("study", study["command"]))
    if not commands and facts.stage is None:
        return None
    missing = [s.path.resolve().name for s in stages if _command(s, facts) is None]
    body = render(
        "report_reproduce.html.j2",
        commands=commands,
        missing=missing,
        rows=[(s.path.resolve().name, _facts(s)) for s in stages],
    )
    sentence = "What to type to make it again, from the folder where it was made; the same seed gives the same splits."
    return Section("reproduce", "Do it again", sentence, body)


def _command(stage: Stage, facts: Facts) -> tuple[str, str] | None:
    """The stage's name and its command; None where its data was in memory."""
    recipe = dict(stage.recipe)
    if any(str(recipe.get(k, "")).startswith(_MEMORY) for k in ("data", "valid", "test", "probe")):
        return None
    return stage.path.resolve().name, command_of(recipe, out=f"{recipe.get('out', stage.path)}-again")


def _facts(stage: Stage) -> list[tuple[str, str]]:
    facts = stage.lineage
    found = [("seed", str(facts.get("seed")))]
    found += [(f"fingerprint of {role} data", str(value)) for role, value in facts.get("data", {}).items()]
    versions = facts.get("versions") or {}
    found += [("versions", ", ".join(f"{k} {v}" for k, v in versions.items()))] if versions else []
    found += [("machine", str(facts["machine"]))] if facts.get("machine") else []
    found += [("source code", str(facts["git"]))] if facts.get("git") else []
    return [*found, ("finished", str(facts.get("finished", "unknown")))]
