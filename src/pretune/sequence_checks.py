"""What is in a set of biological sequences and what is wrong with it."""

from __future__ import annotations

__all__ = ["LETTERS", "check_sequences"]

import re
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from pretune.alphabets import DNA, PROTEIN
from pretune.check_report import SHOWN, CheckReport, quantiles
from pretune.data import DNA_COLUMNS, ID_COLUMNS, PROTEIN_COLUMNS, RowError
from pretune.homology import Near, clusters_of, near, nearest_of
from pretune.kmers import Kmers
from pretune.label_checks import FEW, spelling_warnings
from pretune.media_checks import Look, Media, Roles, Row, check_labels, compare, listed, repeat_warnings, report
from pretune.sources import Source

LETTERS: Mapping[str, str] = {"dna": DNA.legal, "protein": PROTEIN.legal}
"""What a sequence may consist of, in either case."""

_GAPS = "-."
_AMBIGUOUS = {"dna": "NRYSWKMBDHV", "protein": "XBZJ"}
_LONG = 1_000_000
"""Letters of DNA above which too many 12-mers are common by chance (an eighth), so it is not compared."""

_MUCH = 0.05
"""Share of ambiguity codes, and of sequences that are near another, above which there is a warning."""


class _Sequences(Media):
    """Also letters, lengths, k-mers and the tags of residues; not the sequences themselves."""

    noun, of = "sequences", "letters"
    extra: ClassVar[Roles] = ID_COLUMNS

    def __init__(
        self, source: Source, task: str | None, columns: Mapping[str, str], modality: str, kmers: Kmers
    ) -> None:
        self.lengths, self.letters = array("q"), Counter[str]()
        self.modality, self.kmers = modality, kmers
        self.inputs = DNA_COLUMNS if modality == "dna" else PROTEIN_COLUMNS
        self.num_long, self.stopped, self.foreign = 0, list[str](), list[str]()
        super().__init__(source, task, columns, lambda row: _look(row, modality))

    def place(self, record: dict[str, Any]) -> str:
        """The name of a sequence, its file and record."""
        name = record.get("id")
        place = f"{record['_file']}, row {record['_row']}"
        return f'"{name}" ({place})' if name is not None else place

    def measure(self, record: dict[str, Any], measures: Any) -> None:
        sequence, letters = record["sequence"], set("".join(measures).upper())
        self.lengths.append(len(sequence))
        self.letters.update(measures)
        long = self.modality == "dna" and len(sequence) > _LONG
        self.num_long += long
        # this hash is of both strands of DNA
        self.content[-1] = self.kmers.add(sequence, compared=not long) - 2**63
        if self.modality == "protein" and "*" in sequence[:-1]:
            self.stopped.append(self.files[-1])
        if self.modality == "protein" and letters <= set("ACGTUN"):
            self.foreign.append(self.files[-1])

    def facts(self) -> dict[str, Any]:
        total = max(sum(self.letters.values()), 1)
        upper = Counter[str]()
        for letter, count in self.letters.items():
            upper[letter.upper()] += count
        return {
            **super().facts(),
            "total letters": sum(self.lengths),
            **_composition(upper, self.modality),
            "lower-case (soft-masked) letters": f"{sum(n for c, n in self.letters.items() if c.islower()) / total:.1%}",
            "letters": quantiles(self.lengths),
            "letter": dict(upper.most_common()),
        }


def _composition(upper: Counter[str], modality: str) -> dict[str, Any]:
    total = max(upper.total(), 1)
    facts: dict[str, Any] = {}
    if modality == "dna":
        strong = upper["G"] + upper["C"]
        known = strong + sum(upper[c] for c in "ATU")
        facts["GC"] = f"{strong / max(known, 1):.1%}"
    else:
        facts["stops (*)"] = upper["*"]
    unknown = sum(upper[c] for c in _AMBIGUOUS[modality])
    facts[f"ambiguity codes ({' '.join(_AMBIGUOUS[modality])})"] = f"{unknown:,} ({unknown / total:.2%})"
    return facts | {"gaps (- .)": sum(upper[c] for c in _GAPS)}


def _look(row: Row, modality: str) -> Look:
    """The letters of a sequence, or the error of an illegal one or of tags of another length."""
    record, error = row
    if error is not None or record is None:
        return Look({}, error)
    sequence, tags = record["sequence"], record.get("tags")
    if tags is not None and len(tags) == 1 and len(sequence) != 1:  # a string of one letter a residue
        tags = list(tags[0])
    wrong = _illegal(sequence, modality) or _wrong_tags(tags, sequence)
    if wrong:
        named = f'"{record["id"]}": ' if record.get("id") is not None else ""
        return Look(record, RowError(record["_file"], record["_row"], named + wrong))
    return Look(record if tags is None else record | {"tags": tags}, None, 0, Counter(sequence))


def _illegal(sequence: str, modality: str) -> str:
    legal = LETTERS[modality]
    found = re.search(f"[^{re.escape(legal)}]", sequence, re.IGNORECASE)
    if found is None:
        return ""
    number = len(re.findall(f"[^{re.escape(legal)}]", sequence, re.IGNORECASE))
    more = f" (and {number - 1:,} more)" if number > 1 else ""
    what = "white space" if found[0].isspace() else repr(found[0])
    return f"expected letters of {legal}, found {what} at position {found.start() + 1:,}{more}; correct or remove it."


def _wrong_tags(tags: list[str] | None, sequence: str) -> str:
    if tags is None or len(tags) == len(sequence):
        return ""
    return f"expected a tag for each of the {len(sequence):,} letters, found {len(tags):,} tags; align them."


def check_sequences(
    data: Source, task: str | None, test: Source | None, columns: Mapping[str, str], modality: str
) -> CheckReport:
    """Reads every sequence once; see `pretune.checks.check`.

    Args:
        data: What would be given to ``finetune`` or ``pretrain``.
        task: The task that it is labelled for, if any.
        test: Test data.
        columns: The column of a role where it has another than a usual name.
        modality: ``dna`` or ``protein``, of `LETTERS`.
    """
    limits = near(modality)
    kmers = Kmers(limits.k, limits.strands)
    found = _Sequences(data, task, columns, modality, kmers)
    facts, problems = found.facts(), found.problems()
    warnings = [*repeat_warnings(found), *_letter_warnings(found)]
    problems += _check_labels(found, task, facts, warnings)
    facts |= _clusters(found, task, limits, warnings)
    if test is not None:
        other = _Sequences(test, task, columns, modality, kmers)
        compare(found, other, facts, problems, warnings)
        _compare_near(found, other, limits, facts, warnings)
    return report(found, facts, problems, warnings)


def _letter_warnings(found: _Sequences) -> list[str]:
    warnings, count = [], len(found)
    if found.stopped:
        what = f"{len(found.stopped):,} of {count:,} sequences have a stop (*) before their end"
        warnings.append(f"{what}; is the reading frame right?{listed(found.stopped)}")
    if found.foreign:
        what = f"{len(found.foreign):,} of {count:,} sequences have letters of DNA alone (A C G T U N)"
        warnings.append(f"{what}; is it --modality dna?{listed(found.foreign)}")
    unknown = sum(n for c, n in found.letters.items() if c.upper() in _AMBIGUOUS[found.modality])
    share = unknown / max(found.letters.total(), 1)
    if share > _MUCH:
        warnings.append(f"{share:.1%} of the letters are ambiguity codes, from which little is learnt.")
    return warnings


def _check_labels(found: _Sequences, task: str | None, facts: dict[str, Any], warnings: list[str]) -> list[str]:
    if found.role != "tags":
        return check_labels(found, task, facts, warnings)
    facts["tags"] = dict(found.counts.most_common())
    rare = [f"{tag} ({n})" for tag, n in found.counts.items() if n < FEW]
    if rare:
        warnings.append(f"{len(rare)} tags occur fewer than {FEW} times: {', '.join(rare[:SHOWN])}.")
    warnings += spelling_warnings(found.counts)
    only = next(iter(found.counts), "none")
    return [] if len(found.counts) > 1 else [f"All letters have the same tag ({only}); nothing can be learnt."]


def _clusters(found: _Sequences, task: str | None, limits: Near, warnings: list[str]) -> dict[str, Any]:
    sizes = np.bincount(clusters_of(found.kmers, limits.identity))
    near_others = int(sizes[sizes > 1].sum())
    if task is not None and near_others > _MUCH * len(found):
        warnings.append(
            f"{near_others:,} of {len(found):,} sequences are near another ({_meaning(limits)}): with some of them "
            "held out at random, validation looks better than it is for new families; hold out whole clusters."
        )
    facts = {
        f"clusters ({_meaning(limits)})": len(sizes),
        "sequences of the largest cluster": int(max(sizes, default=0)),
    }
    return facts | ({f"sequences above {_LONG:,} letters, not clustered": found.num_long} if found.num_long else {})


def _meaning(limits: Near) -> str:
    return f"{limits.identity:.0%} of the {limits.k}-mers in common"


def _compare_near(
    train: _Sequences, test: _Sequences, limits: Near, facts: dict[str, Any], warnings: list[str]
) -> None:
    shares = nearest_of(train.kmers, len(train))
    same = int(np.isin(test.content, train.content).sum())
    count = int((shares >= limits.identity).sum()) - same
    facts[f"test sequences near one in training ({_meaning(limits)})"] = count
    if count:
        warnings.append(
            f"{count:,} of {len(test):,} test sequences are near one in the training data ({_meaning(limits)}) without "
            "being equal: test results look better than they are for new families."
        )
