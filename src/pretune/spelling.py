"""Transcripts to symbols of an alphabet: what is compared, what is learnt, how it is stored."""

from __future__ import annotations

__all__ = ["BLANK", "DELIMITER", "UNKNOWN", "Spelling", "frames_needed"]

import itertools
import json
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretune.errors import DataError

BLANK, DELIMITER, UNKNOWN = "<pad>", "|", "<unk>"
_APOSTROPHES = {"’": "'", "ʼ": "'", "`": "'"}


def frames_needed(symbols: Sequence[Any]) -> int:
    """The fewest frames that can say these letters: one each, and a blank between two that are the same."""
    return len(symbols) + sum(a == b for a, b in itertools.pairwise(symbols))


@dataclass
class Spelling:
    """How texts are spelt.

    Attributes:
        lower: Texts are turned to lower case.
        drop_punctuation: All but letters, digits, marks and apostrophes is left out.
        symbols: The alphabet: the blank, the delimiter of words, characters, the unknown one.
    """

    lower: bool = True
    drop_punctuation: bool = True
    symbols: list[str] = field(default_factory=list)

    @property
    def blank(self) -> int:
        """Number of the blank."""
        return self.symbols.index(BLANK)

    def normal(self, text: str) -> str:
        """The text as it is compared: composed characters, single spaces."""
        text = unicodedata.normalize("NFC", text)
        text = "".join(_APOSTROPHES.get(c, c) for c in (text.lower() if self.lower else text))
        if self.drop_punctuation:
            text = "".join(c if _spoken(c) else " " for c in text)
        return " ".join(text.split())

    def learn(self, texts: Iterable[str], given: str | None = None) -> None:
        """Takes the alphabet of normal texts, or the one that is given.

        Raises:
            DataError: The given one lacks characters of the texts.
        """
        found = {c for text in texts for c in text} - {" "}
        if given is not None:
            missing = sorted(found - set(given))
            if missing:
                raise DataError(f"The alphabet lacks characters of the transcripts: {' '.join(missing)}; add them.")
            found = set(given) - {" "}
        self.symbols = [BLANK, DELIMITER, *sorted(found - {DELIMITER}), UNKNOWN]

    def encode(self, text: str) -> list[int]:
        """Numbers of the symbols of a normal text."""
        number = {s: i for i, s in enumerate(self.symbols)}
        unknown = number.get(UNKNOWN, self.blank)
        return [number.get(DELIMITER if c == " " else c, unknown) for c in text]

    def save(self, folder: Path) -> None:
        """Writes a `Wav2Vec2CTCTokenizer`, which transformers' pipeline reads."""
        from transformers import Wav2Vec2CTCTokenizer

        with tempfile.TemporaryDirectory() as temporary:
            vocabulary = Path(temporary) / "vocab.json"
            vocabulary.write_text(json.dumps({s: i for i, s in enumerate(self.symbols)}, ensure_ascii=False))
            special = {"bos_token": None, "eos_token": None, "pad_token": BLANK, "unk_token": UNKNOWN}
            tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary), word_delimiter_token=DELIMITER, **special)
            tokenizer.save_pretrained(str(folder))

    @classmethod
    def of(cls, folder: str | Path) -> Spelling | None:
        """The alphabet of a model directory; None where there is none."""
        file = Path(folder) / "vocab.json"
        if not file.is_file():
            return None
        numbers: dict[str, int] = json.loads(file.read_text(encoding="utf-8"))
        return cls(symbols=sorted(numbers, key=lambda s: numbers[s]))


def _spoken(character: str) -> bool:
    return character == "'" or unicodedata.category(character)[0] in "LMN"
