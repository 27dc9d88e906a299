"""What is in the data and what is wrong with it, before any compute is spent."""

from __future__ import annotations

__all__ = ["CheckReport", "check"]

import json
import re
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pretune import sources
from pretune.audio_checks import check_audio
from pretune.check_report import SHOWN, CheckReport, quantiles
from pretune.data import TEXT_COLUMNS, CorpusCounts, Documents, RowError, stream_records
from pretune.errors import ConfigError
from pretune.image_checks import check_images
from pretune.label_checks import FEW, check_classes, check_values, number
from pretune.modalities.base import Modality
from pretune.objectives.base import require_kind
from pretune.registry import build, classes, find
from pretune.sequence_checks import LETTERS, check_sequences
from pretune.sources import Source
from pretune.tag_checks import TagCheck
from pretune.tasks.base import Task
from pretune.unread_columns import unread

_MEDIA = {"pixels": check_images, "waveform": check_audio}
_WORD = re.compile(r"\w+")
_LONG_LINE = 40
"""Words: lines longer than this on average are whole paragraphs, not wrapped lines or sentences."""


def check(
    data: Source,
    *,
    task: str | None = None,
    test: Source | None = None,
    columns: Mapping[str, str] = {},
    boundary: str = "line",
    modality: str = "text",
) -> CheckReport:
    """Reads all of the data once and says what is in it and what is wrong with it.

    Args:
        data: What would be given to ``finetune`` (with `task`) or ``pretrain`` (without).
        task: The task that it is labelled for; None checks an unlabelled corpus.
        test: Test data that must not share texts with `data`, and has only its labels.
        columns: The column of a role, where it has another than a usual name.
        boundary: For a corpus, what a document is in ``.txt`` files: ``line``, ``blank`` or ``file``.
        modality: What the data is.

    Raises:
        ConfigError: An option that has no effect here.
        DataError: The data as a whole cannot be read: no such path, a column is missing.
    """
    if task is None and test is not None:
        raise ConfigError("--test is compared with labelled data; name its --task.")
    source: Modality = build("modality", modality)
    if task is not None:
        require_kind(build("task", task), source, classes("task"))
    look = partial(check_sequences, modality=source.name) if source.name in LETTERS else _MEDIA.get(source.kind)
    if look is not None:
        if boundary != "line":
            raise ConfigError("--boundary is for text; leave it out.")
        return look(data, task, test, columns)
    if task is None:
        return _check_corpus(data, columns, boundary)
    if boundary != "line":
        raise ConfigError("--boundary is for a corpus without labels; leave it out or leave --task out.")
    return _check_labelled(data, task, test, columns)


class _Texts:
    """Lengths and hashes of texts (exact, and of their words alone): 40 bytes a text, whatever its length."""

    def __init__(self) -> None:
        self.exact, self.normal, self.labels = array("q"), array("q"), array("q")
        self.characters, self.words = array("q"), array("q")
        self.bad: list[str] = []
        self.num_bad = 0

    def add(self, text: str, label: Any = None, num_words: int | None = None) -> None:
        words = _WORD.findall(text.casefold())
        self.exact.append(hash(text))
        self.normal.append(hash(" ".join(words)) if words else hash(text))
        self.labels.append(hash(json.dumps(label, default=str)))
        self.characters.append(len(text))
        self.words.append(len(words) if num_words is None else num_words)

    def reject(self, error: RowError) -> None:
        self.num_bad += 1
        if len(self.bad) < SHOWN:
            self.bad.append(str(error))

    def __len__(self) -> int:
        return len(self.exact)

    def facts(self) -> dict[str, Any]:
        exact, normal = (len(np.unique(h)) for h in (self.exact, self.normal))
        return {
            "bad rows": self.num_bad,
            "exact duplicates": len(self) - exact,
            "near-duplicates (same words)": exact - normal,
            "characters": quantiles(self.characters),
            "words": quantiles(self.words),
        }

    def problems(self, what: str = "") -> list[str]:
        if not self.num_bad:
            return []
        more = f"\n  ... and {self.num_bad - len(self.bad):,} more" if self.num_bad > len(self.bad) else ""
        listed = "".join(f"\n  {text}" for text in self.bad)
        return [f"{self.num_bad:,} of {len(self) + self.num_bad:,} {what}rows cannot be used:{listed}{more}"]

    def conflicts(self) -> NDArray[np.bool_]:
        """For each text whether the same words come with another label elsewhere."""
        pairs = np.unique(np.stack([_np(self.normal), _np(self.labels)], axis=1), axis=0)
        texts, counts = np.unique(pairs[:, 0], return_counts=True)
        return np.isin(_np(self.normal), texts[counts > 1])


def _np(values: Any) -> NDArray[np.int64]:
    return np.frombuffer(values, dtype=np.int64) if len(values) else np.zeros(0, np.int64)


class _Labelled(_Texts):
    """Labelled records, with what the labels are."""

    def __init__(self, source: Source, task: str, columns: Mapping[str, str]) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.values = array("d")
        self.tags = TagCheck()
        self.places: list[tuple[str, int]] = []
        self._files: dict[str, str] = {}
        cls = cast("type[Task]", find("task", task))
        self.inputs = inputs = cls.roles or TEXT_COLUMNS
        self._numbers, self._role = task == "regression", cls.label_role
        self._first = next(iter(inputs))
        roles = {**inputs, self._role: cls.label_columns}
        rows = stream_records(source, roles=roles, columns=columns, required=(self._first, self._role))
        for record, error in rows:
            wrong = error or self._take(record or {})
            if wrong:
                self.reject(wrong)

    def _take(self, record: dict[str, Any]) -> RowError | None:
        label, file, row = record[self._role], record["_file"], record["_row"]
        if self._numbers:
            value = number(label)
            if value is None:
                reason = f"expected a number as label, found {label!r}; name its column with --label_column."
                return RowError(file, row, reason)
            self.values.append(value)
        elif self._role == "tags":
            self.tags.see(label, f"{file}, row {row}")
        else:
            self.counts.update(map(str, label) if isinstance(label, list) else [str(label)])
        first = record[self._first]
        texts = [" ".join(first) if isinstance(first, list) else first, record.get("text_pair") or ""]
        num_words = len(first) if isinstance(first, list) else None
        self.add("\n".join(filter(None, texts)), label, num_words)
        self.places.append((self._files.setdefault(file, file), row))
        return None

    def known(self) -> set[str]:
        """All labels, or all types of tags without the letter of the scheme."""
        if self._role != "tags":
            return set(self.counts)
        plain = self.tags.scheme == "plain"
        return set(self.tags.tags) if plain else set(self.tags.entities)


def _check_labelled(data: Source, task: str, test: Source | None, columns: Mapping[str, str]) -> CheckReport:
    found = _Labelled(data, task, columns)
    facts: dict[str, Any] = {"rows": len(found), **found.facts()}
    problems, warnings = found.problems(), _unread_warnings(data, found.inputs, columns) + _duplicate_warnings(found)
    conflicting = found.conflicts()
    facts["conflicting labels"] = int(conflicting.sum())
    if conflicting.any():
        warnings.append(_conflict_warning(found, conflicting))
    if found.values or task == "regression":
        problems += check_values(found.values, facts)
    elif found.tags.tags:
        facts["tag scheme"] = found.tags.scheme
        facts["tags"] = dict(found.tags.tags.most_common())
        facts["entities"] = dict(found.tags.entities.most_common())
        problems += found.tags.problems()
    else:
        problems += check_classes(found.counts, len(found), facts, warnings)
    if test is not None:
        _check_test(found, _Labelled(test, task, columns), facts, problems, warnings)
    return CheckReport({k: v for k, v in facts.items() if v != {}}, tuple(problems), tuple(warnings))


def _unread_warnings(data: Source, roles: Mapping[str, Sequence[str]], columns: Mapping[str, str]) -> list[str]:
    note = unread(data, roles, columns)
    return [f"{note}."] if note else []


def _duplicate_warnings(found: _Texts) -> list[str]:
    facts = found.facts()
    exact, near = facts["exact duplicates"], facts["near-duplicates (same words)"]
    if not exact + near:
        return []
    parts = [f"{exact:,} texts repeat an earlier one"] if exact else []
    also = "do" if exact else "texts repeat an earlier one"
    parts += [f"{near:,} {also} but for case, spaces or punctuation"] if near else []
    return [
        f"{' and '.join(parts)} ({(exact + near) / len(found):.1%} of all); "
        "with some of them held out, validation looks better than it is."
    ]


def _conflict_warning(found: _Labelled, conflicting: NDArray[np.bool_]) -> str:
    places = [found.places[i] for i in np.flatnonzero(conflicting)[:SHOWN]]
    listed = "".join(f"\n  {file}, row {row}" for file, row in places)
    return f"{int(conflicting.sum()):,} rows have the same text as another with a different label:{listed}"


def _check_test(
    train: _Labelled, test: _Labelled, facts: dict[str, Any], problems: list[str], warnings: list[str]
) -> None:
    problems += test.problems("test ")
    exact = int(np.isin(_np(test.exact), _np(train.exact)).sum())
    normal = int(np.isin(_np(test.normal), _np(train.normal)).sum())
    facts |= {"test rows": len(test), "test rows also in training": exact}
    facts["test rows with the same words as in training"] = normal
    if normal:
        warnings.append(
            f"{normal:,} of {len(test):,} test texts are also in the training data ({exact:,} exactly): "
            "test results look better than they are; remove them from one side."
        )
    unknown = sorted(test.known() - train.known())
    if unknown:
        problems.append(f"Test data has labels that training data has not: {', '.join(unknown[:SHOWN])}.")
    if test.tags.tags:
        problems += [f"In test data: {text}" for text in test.tags.problems()]


def _check_corpus(data: Source, columns: Mapping[str, str], boundary: str) -> CheckReport:
    unused = sorted(set(columns) - {"text"})
    if unused:
        raise ConfigError(f"--{unused[0]}_column has no effect without --task; leave it out or give a task.")
    reader = Documents(data, text_column=columns.get("text"), boundary=boundary)
    found = _Texts()
    for item in reader.tolerant():
        if isinstance(item, RowError):
            found.reject(item)
        else:
            found.add(item.text)
    counts = reader.counts
    num_words = sum(found.words)
    total = {"documents": len(found), "total characters": sum(found.characters), "total words": num_words}
    lines = {"files": counts.num_files, "lines": counts.num_lines, "empty lines": counts.num_empty}
    facts = {**total, **lines, **found.facts(), **_ignored(data)}
    warnings = _unread_warnings(data, {"text": TEXT_COLUMNS["text"]}, columns) + _duplicate_warnings(found)
    if counts.plain:
        facts["boundary that would suit"] = suited = _suited(counts, num_words)
        if suited != boundary:
            warnings.append(f'The boundary is "{boundary}"; from the empty lines and files, "{suited}" would suit.')
    if len(found) < 2:
        warnings.append("There are fewer than two documents, so none can be held out; is the boundary right?")
    return CheckReport({k: v for k, v in facts.items() if v != {}}, tuple(found.problems()), tuple(warnings))


def _ignored(data: Source) -> dict[str, Any]:
    found = sources.locate(data, "text") if isinstance(data, str | Path) else None
    names = [str(f.relative_to(f.parent)) for f in found.ignored] if isinstance(found, sources.Local) else []
    return {"files of other formats, not read": ", ".join(names[:SHOWN])} if names else {}


def _suited(counts: CorpusCounts, num_words: int) -> str:
    """Which boundary the lines, the empty lines and the files look like."""
    num_texts = max(1, counts.num_lines - counts.num_empty)
    if num_words / num_texts > _LONG_LINE:
        return "line"
    if counts.num_blocks > counts.num_files and num_texts >= 1.5 * counts.num_blocks:
        return "blank"
    return "file" if counts.num_files >= FEW and num_texts >= 2 * counts.num_files else "line"
