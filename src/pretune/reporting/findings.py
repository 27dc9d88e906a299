"""What other verbs left beside a run: what was learnt and what moved."""

from __future__ import annotations

__all__ = ["inspection_section"]

from pretune.reporting.facts import Facts
from pretune.reporting.section import Section, render
from pretune.reporting.training import small_png


def inspection_section(facts: Facts) -> Section | None:
    """What `pretune inspect` found: its sentences and pictures."""
    if facts.stage is None:
        return None
    found = facts.json("inspection.json")
    sentences = [str(s) for key in ("sentences", "notes") for s in (found or {}).get(key, [])]
    pictures = []
    for file in sorted((facts.stage.path / "inspection").glob("*.png")):
        address = facts.room.take(small_png(file.read_bytes()), "image/png")
        if address is not None:
            pictures.append((file.stem.replace("_", " "), address))
    if not sentences and not pictures:
        return None
    body = render("report_findings.html.j2", sentences=sentences, pictures=pictures)
    sentence = "Which layers know what, and how far fine-tuning moved them from where they started."
    return Section("inspection", "What was learnt, and what moved", sentence, body)
