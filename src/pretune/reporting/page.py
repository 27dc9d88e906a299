"""`report`: one self-contained page about a run or a study, for those who were not there."""

from __future__ import annotations

__all__ = ["report"]

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pretune import __version__
from pretune.checkpoint import write_text
from pretune.errors import ConfigError, RunError
from pretune.limits import check_numbers
from pretune.progress import say
from pretune.reporting.cost import cost_section
from pretune.reporting.data_card import data_section
from pretune.reporting.facts import Facts, gather
from pretune.reporting.findings import inspection_section
from pretune.reporting.picture_views import drawn_section
from pretune.reporting.provenance import limits_section, reproduce_section
from pretune.reporting.reasons import explanation_section
from pretune.reporting.results import calibration_section, confusion_section, metrics_section
from pretune.reporting.section import Section, plural, render
from pretune.reporting.studied import study_section
from pretune.reporting.summary import lineage_section, title_of, verdict_section
from pretune.reporting.training import health_section, pictures_section, training_section
from pretune.reporting.value_views import labels_section, values_section
from pretune.reporting.word_views import tags_section, transcripts_section

SECTIONS: tuple[Callable[[Facts], Section | None], ...] = (
    verdict_section,
    lineage_section,
    study_section,
    data_section,
    cost_section,
    metrics_section,
    confusion_section,
    labels_section,
    values_section,
    tags_section,
    transcripts_section,
    drawn_section,
    calibration_section,
    explanation_section,
    inspection_section,
    training_section,
    health_section,
    pictures_section,
    limits_section,
    reproduce_section,
)
"""What a report has, in order; each gives None where there is nothing to show."""


def report(
    run: str,
    *,
    test: Any = None,
    study: str | None = None,
    columns: Mapping[str, str] | None = None,
    out: str | None = None,
    num_explained: int = 6,
    overwrite: bool = False,
) -> Path:
    """Writes one self-contained HTML page about a run or a study, for people who were not there.

    Args:
        run: A run directory of `pretrain` or `finetune`, or the folder of a study.
        test: Labelled test data, for held-out results with examples; not given: that of the run, where it is unchanged.
        study: The folder of a study, whose verdict the page then has.
        columns: Column of each role of the test data, where it differs from the run's.
        out: The file to write; not given: report.html in the run's folder.
        num_explained: Most predictions that are explained; 0 leaves explanations out.
        overwrite: Replace an earlier report.

    Returns:
        The file.

    Raises:
        PretuneError: In one sentence, what is wrong with the run, the data or an option.
    """
    check_numbers({"num_explained": num_explained})
    file = _file(run, out)
    if file.exists() and not overwrite:
        raise RunError(f'"{file}" is there already; give --overwrite to replace it, or another --out.')
    facts = gather(run, test=test, study=study, columns=columns, num_explained=num_explained)
    page = page_of(facts)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, page)
    say(f"wrote {file}, {file.stat().st_size / 1e6:.1f} MB")
    return file


def _file(run: str, out: str | None) -> Path:
    file = Path(run) / "report.html" if out is None else Path(out)
    if file.is_dir():
        raise ConfigError(f'--out is the file to write; found the folder "{out}".')
    if file.suffix not in (".html", ".htm"):
        raise ConfigError(f'--out ends with .html; found "{out}".')
    return file


def page_of(facts: Facts) -> str:
    """The page as HTML."""
    sections = [s for section in SECTIONS if (s := section(facts)) is not None]
    title, subtitle = title_of(facts)
    return render(
        "report.html.j2",
        title=title,
        subtitle=subtitle,
        sections=sections,
        version=__version__,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        left_out=plural(facts.room.left_out, "picture or recording") if facts.room.left_out else "",
    )
