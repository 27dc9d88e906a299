"""What is in a set of recordings and what is wrong with it: every one is decoded."""

from __future__ import annotations

__all__ = ["check_audio"]

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from pretune.audio_reading import faults, header, samples
from pretune.check_report import SHOWN, CheckReport, quantiles
from pretune.columns import SPEAKER_COLUMNS
from pretune.data import AUDIO_COLUMNS, RowError
from pretune.errors import DataError, shortened
from pretune.label_checks import FEW
from pretune.media_checks import Look, Media, Roles, Row, check_labels, compare, listed, repeat_warnings, report
from pretune.modalities.audio import Audio
from pretune.sources import Source
from pretune.spelling import frames_needed

_WORD = re.compile(r"\w+")
_FRAMES = 25
"""Frames a second of the usual encoder; a letter needs one, and a repeated one two."""

_LONGEST = Audio().max_seconds
"""Seconds beyond which speech to text does not learn from a recording, unless told otherwise."""


class _Recordings(Media):
    """Also lengths, rates, faults, speakers and transcripts; of these no more than counts, whatever their length."""

    noun, of = "recordings", "samples"
    inputs: Roles = AUDIO_COLUMNS
    extra: ClassVar[Roles] = {"speaker": SPEAKER_COLUMNS}

    def __init__(self, source: Source, task: str | None, columns: Mapping[str, str], *, learn: bool = True) -> None:
        self.learn = learn
        self.seconds = array("d")
        self.rates: Counter[str] = Counter()
        self.channels: Counter[str] = Counter()
        self.faulty: dict[str, list[str]] = {"silent": [], "clipped": []}
        self.speakers: Counter[str] = Counter()
        self.characters, self.words = array("q"), array("q")
        self.alphabet: Counter[str] = Counter()
        self.wordless: list[str] = []
        super().__init__(source, task, columns, _look)

    def measure(self, record: dict[str, Any], measures: Any) -> None:
        seconds, rate, channels, heard = measures
        self.seconds.append(seconds)
        self.rates[f"{rate} Hz"] += 1
        self.channels[str(channels)] += 1
        for fault in heard:
            self.faulty[fault].append(self.files[-1])
        if record.get("speaker") is not None:
            self.speakers[str(record["speaker"])] += 1
        if self.role == "text":
            self._transcript(self._normal(record))

    def _normal(self, record: dict[str, Any]) -> str:
        """The transcript as the task compares it."""
        assert self.task is not None
        return str(self.task.read_label(record, "text"))

    def fit(self, record: dict[str, Any], measures: Any) -> None:
        if self.role != "text":
            return
        text, seconds = self._normal(record), measures[0]
        needed = frames_needed(text)
        if self.learn and seconds > _LONGEST:
            raise DataError(
                f"the recording lasts {seconds:.1f} s, and speech to text learns from {_LONGEST:g} s at most: cut it "
                "and its transcript at pauses, or raise --modality.max_seconds when training."
            )
        if self.learn and needed > seconds * _FRAMES:
            helps = needed <= 2 * seconds * _FRAMES
            doubled = "; training with --modality.frame_ms 20 doubles them" if helps else ""
            raise DataError(
                f"{shortened(text)} needs {needed} frames and the recording has {int(seconds * _FRAMES)} "
                f"({seconds:.2f} s): is it cut, or the transcript that of another{doubled}?"
            )

    def _transcript(self, text: str) -> None:
        words = _WORD.findall(text)
        self.characters.append(len(text))
        self.words.append(len(words))
        self.alphabet.update(text)
        if not words:
            self.wordless.append(self.files[-1])

    def facts(self) -> dict[str, Any]:
        speakers = {"speakers": len(self.speakers)} if self.speakers else {}
        return {
            **super().facts(),
            "hours": round(sum(self.seconds) / 3600, 4),
            **{f"{fault} recordings": len(found) for fault, found in self.faulty.items()},
            **speakers,
            "seconds": quantiles(self.seconds, 2),
            "sampling rate": dict(self.rates.most_common()),
            "channels": dict(self.channels.most_common()),
        }


def _look(row: Row) -> Look:
    """Length in seconds, rate, channels and faults, and a hash of the samples at the rate of the recording."""
    record, error = row
    if error is not None or record is None:
        return Look({}, error)
    try:
        head = header(record["audio"])
        found = samples(record["audio"], head.rate)
    except DataError as bad:
        return Look(record, RowError(record["_file"], record["_row"], str(bad)))
    digest = hashlib.blake2b(f"{head.rate} ".encode() + found.tobytes(), digest_size=8).digest()
    slim = record if isinstance(record["audio"], str) else record | {"audio": {"path": record["audio"]["path"]}}
    measures = (len(found) / head.rate, head.rate, head.channels, faults(found))
    return Look(slim, None, int.from_bytes(digest, "big", signed=True), measures)


def check_audio(data: Source, task: str | None, test: Source | None, columns: Mapping[str, str]) -> CheckReport:
    """Decodes every recording once; see `pretune.checks.check`."""
    found = _Recordings(data, task, columns)
    facts, problems = found.facts(), found.problems()
    warnings = [*repeat_warnings(found), *_fault_warnings(found)]
    if found.role == "text":
        warnings += _check_transcripts(found, facts)
    else:
        problems += check_labels(found, task, facts, warnings)
    if task is not None and len(found.speakers) == 1:
        warnings.append(
            f'All {len(found):,} recordings are of the speaker "{next(iter(found.speakers))}", so that none can be '
            "held out; give --valid, --valid_rate 0 or --modality.shared_speakers true when training."
        )
    if test is not None:
        other = _Recordings(test, task, columns, learn=False)
        compare(found, other, facts, problems, warnings)
        _compare_speakers(found, other, facts, warnings)
        _compare_alphabets(found, other, warnings)
    return report(found, facts, problems, warnings)


def _fault_warnings(found: _Recordings) -> list[str]:
    said = {"silent": "silent (below -60 dB of full scale)", "clipped": "clipped (cut off at full scale)"}
    return [
        f"{len(places):,} of {len(found):,} recordings are {said[fault]}:{listed(places)}"
        for fault, places in found.faulty.items()
        if places
    ]


def _check_transcripts(found: _Recordings, facts: dict[str, Any]) -> list[str]:
    """Adds the facts of transcripts; returns the warnings."""
    warnings = []
    facts["characters"], facts["words"] = quantiles(found.characters), quantiles(found.words)
    facts["alphabet"] = "".join(sorted(found.alphabet))
    facts["characters in the alphabet"] = len(found.alphabet)
    rare = [f"{letter!r} ({n})" for letter, n in sorted(found.alphabet.items()) if n < FEW]
    if rare:
        warnings.append(f"{len(rare)} characters occur fewer than {FEW} times: {', '.join(rare[:SHOWN])}.")
    if found.wordless:
        warnings.append(f"{len(found.wordless):,} transcripts have no word:{listed(found.wordless)}")
    return warnings


def _compare_speakers(train: _Recordings, test: _Recordings, facts: dict[str, Any], warnings: list[str]) -> None:
    if not (train.speakers and test.speakers):
        return
    both = sorted(set(train.speakers) & set(test.speakers))
    facts |= {"test speakers": len(test.speakers), "test speakers also in training": len(both)}
    if both:
        more = f" and {len(both) - SHOWN} more" if len(both) > SHOWN else ""
        warnings.append(
            f"{len(both)} of {len(test.speakers)} test speakers are also in the training data "
            f"({', '.join(both[:SHOWN])}{more}): results look better than they are for new speakers."
        )


def _compare_alphabets(train: _Recordings, test: _Recordings, warnings: list[str]) -> None:
    unknown = sorted(set(test.alphabet) - set(train.alphabet))
    if unknown:
        shown = " ".join(map(repr, unknown[:SHOWN]))
        warnings.append(f"Test transcripts have characters that training data has not, so none is ever right: {shown}.")
