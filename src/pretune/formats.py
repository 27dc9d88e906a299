"""Which formats there are, by the ending of a file, and what they may hold."""

from __future__ import annotations

__all__ = ["FORMATS", "MEDIA", "SEQUENCES", "TABLES", "below", "endings", "format_of"]

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pretune import audio_reading, image_reading

FORMATS = {
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    **dict.fromkeys((".fasta", ".fa", ".fna", ".faa", ".ffn", ".fas"), "fasta"),
    **dict.fromkeys((".fastq", ".fq"), "fastq"),
    **dict.fromkeys((".gb", ".gbk", ".genbank", ".gbff"), "genbank"),
    **dict.fromkeys((".pdb", ".ent", ".cif"), "structure"),
}
"""Endings of files of text, tables and sequences, and the format of each; all but parquet may also end in ``.gz``."""

TABLES = ("csv", "tsv", "jsonl", "json", "parquet")
SEQUENCES = ("fasta", "fastq", "genbank", "structure")
MEDIA: Mapping[str, Sequence[str]] = {
    "text": ("text", "conll", *TABLES),
    "image": ("image", "array", *TABLES),
    "audio": ("audio", *TABLES),
    "sequence": (*SEQUENCES, "text", *TABLES),
}
"""What a source may hold, and the formats of its files."""

_EXTENSIONS = {"image": image_reading.EXTENSIONS, "audio": audio_reading.EXTENSIONS}
_ARRAYS = re.compile(r"(\.np[yz]|[-.]idx\d?(-u?byte)?|\.idx)$")


def below(file: Path, root: Path) -> tuple[str, ...]:
    """The folders from `root` down to a file, and its name; `Path.relative_to` takes 16 times as long."""
    return file.parts[len(root.parts) :]


def format_of(path: Path) -> str | None:
    """The format of a file by its ending, apart from ``.gz``; None when no medium has it."""
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    for medium, known in _EXTENSIONS.items():
        if plain.endswith(known):
            return medium if plain == name else None
    if _ARRAYS.search(plain):
        return "array" if plain == name or "idx" in plain else None
    found = FORMATS.get(Path(plain).suffix)
    return None if plain != name and found == "parquet" else found


def endings(medium: str | None = None) -> str:
    """The endings of the files of a medium (None: of text), for messages."""
    kinds = MEDIA[medium or "text"]
    listed = ", ".join(e for e, f in FORMATS.items() if f in kinds)
    if medium in _EXTENSIONS:
        arrays = ", .npy, .npz, idx3-ubyte" if "array" in kinds else ""
        return f"{', '.join(_EXTENSIONS[medium])}{arrays}, {listed}"
    return f"{listed} (or these with .gz)"
