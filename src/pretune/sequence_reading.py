"""FASTA, FASTQ, GenBank and structure files as rows, a record at a time; a damaged record is named, never skipped."""

from __future__ import annotations

__all__ = ["fasta_rows", "sequence_table"]

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pretune.errors import DataError
from pretune.formats import format_of
from pretune.readers import Line, RowError, RowStream, Table, lines
from pretune.structure_reading import COLUMNS, structure_rows

_UNIT = "record"
_BRACKETS = re.compile(r"\[([A-Za-z_][\w.-]*)=([^\]]*)\]")
_KEY = re.compile(r"(?:^|(?<=[\s;|]))([A-Za-z_][\w.-]*)=")
_LENGTH = re.compile(r"\s(\d+)\s+(?:bp|aa)\b")
_NO_COLUMNS = " Give a .csv, .tsv, .jsonl or .parquet file with columns, or a folder with one sub-folder a label."


def sequence_table(path: Path) -> Table:
    """The rows of a file of sequences.

    Columns are ``id``, ``description`` and ``sequence``; of FASTA and FASTQ also each ``key=value`` (or
    ``[key=value]``) of the header, whose value ends at the next key; of GenBank ``organism``; of structures
    ``id``, ``sequence`` and the places of atoms (see `structure_rows`).
    """
    file, kind = str(path), format_of(path)
    if kind == "genbank":
        columns = ["id", "description", "sequence", "organism"]
        return Table(file, columns, lambda _: _some(path, genbank_rows(file, lines(path))), _UNIT, _NO_COLUMNS)
    if kind == "structure":
        return Table(file, COLUMNS, lambda needed: structure_rows(path, needed), _UNIT, _NO_COLUMNS)
    read = fastq_rows if kind == "fastq" else fasta_rows
    # each header names its own columns
    return Table(file, None, lambda _: _some(path, read(file, lines(path))), _UNIT)


def _some(path: Path, rows: RowStream) -> RowStream:
    first = next(rows, None)
    if first is None:
        raise DataError(f'"{path}" has no record; give a file with at least one sequence.')
    yield first
    yield from rows


# Not Biotite's readers for these two: they pass over what stands before the first ">", and over a last record of
# FASTQ that is cut short.
def fasta_rows(file: str, source: Iterable[Line]) -> RowStream:
    """A record a row; lines that begin with ``;`` are comments.

    Raises:
        DataError: The first line is no header.
    """
    number, header, pieces = 0, "", list[str]()
    error: RowError | None = None
    for line in source:
        text = line.text.strip()
        if text.startswith(">"):
            if number:
                yield number, error or _row(file, number, header, "".join(pieces))
            number, header, pieces, error = number + 1, text[1:].strip(), [], None
        elif text and not text.startswith(";"):
            if not number:
                raise DataError(
                    f'{file}, line {line.number}: expected ">" and a name, found {text[:40]!r}; is it FASTA?'
                )
            pieces.append(text)
        error = error or (line.error and RowError(file, max(number, 1), line.error.reason, _UNIT))
    if number:
        yield number, error or _row(file, number, header, "".join(pieces))


def _row(file: str, number: int, header: str, sequence: str) -> dict[str, Any] | RowError:
    name = header.split(maxsplit=1)[0] if header else ""
    if not name:
        return RowError(file, number, "expected a name in the header, found none; give each record one.", _UNIT)
    if not sequence:
        return RowError(file, number, f'the sequence of "{name}" is empty; fill it in or delete the record.', _UNIT)
    rest = header[len(name) :].strip()
    return _pairs(header) | {"id": name, "description": rest, "sequence": sequence}


def _pairs(header: str) -> dict[str, str]:
    """``key=value`` of a header: UniProt's ``OS=Homo sapiens OX=9606``, NCBI's ``[gene=dnaA]``, ``a=b;c=d``."""
    if "=" not in header:
        return {}
    found = dict(_BRACKETS.findall(header))
    plain = _BRACKETS.sub(" ", header)
    keys = list(_KEY.finditer(plain))
    ends = [*(key.start() for key in keys), len(plain)][1:]
    return found | {k[1]: plain[k.end() : end].strip(" \t;|\"'") for k, end in zip(keys, ends, strict=True)}


def fastq_rows(file: str, source: Iterable[Line]) -> RowStream:
    """A read a row, without its qualities.

    Raises:
        RowError: A record is cut short or its qualities have another length: where the next begins is unknown then.
    """
    kept = iter(source)
    for number, first in enumerate(_heads(kept), 1):
        header, wrong = first.text.strip(), first.error
        if not header.startswith("@"):
            raise RowError(file, number, f'expected "@" and a name, found {header[:40]!r}; is it FASTQ?', _UNIT)
        pieces, qualities, again = list[str](), 0, ""
        for line in kept:
            wrong = wrong or line.error
            if line.text.startswith("+"):
                again = line.text[1:].strip()
                break
            pieces.append(line.text.strip())
        sequence = "".join(pieces)
        while qualities < len(sequence) and (more := next(kept, None)):
            qualities += len(more.text.rstrip("\r\n"))
        if qualities != len(sequence):
            reason = f"expected {len(sequence)} qualities, one a letter, found {qualities}; fetch the file again."
            raise RowError(file, number, reason, _UNIT)
        if again and again != header[1:].strip():
            reason = (
                f"expected {header[1:41]!r} again before the qualities, found {again[:40]!r}; are these of another?"
            )
            wrong = wrong or RowError(file, number, reason, _UNIT)
        error = wrong and RowError(file, number, wrong.reason, _UNIT)
        yield number, error or _row(file, number, header[1:].strip(), sequence)


def _heads(source: Iterator[Line]) -> Iterator[Line]:
    """The next line that is not empty, each time."""
    return (line for line in source if line.text.strip())


def genbank_rows(file: str, source: Iterable[Line]) -> RowStream:
    """A record a row, up to its ``//``."""
    number, block, error = 1, list[str](), None
    for line in source:
        error = error or line.error
        block.append(line.text.rstrip("\r\n"))
        if block[-1].rstrip() == "//":
            yield number, (error and RowError(file, number, error.reason, _UNIT)) or _genbank(file, number, block)
            number, block, error = number + 1, [], None
    if any(text.strip() for text in block):
        yield number, RowError(file, number, 'expected "//" at its end, found none; is the file cut short?', _UNIT)


def _genbank(file: str, number: int, block: list[str]) -> dict[str, Any] | RowError:
    from biotite.sequence.io.genbank import GenBankFile

    start = next((i for i, text in enumerate(block) if text.startswith("LOCUS")), None)
    if start is None:
        return RowError(file, number, "expected a line LOCUS, found none; is it GenBank?", _UNIT)
    try:
        record = GenBankFile.read(io.StringIO("\n".join(block[start:])))
        found = {name: record.get_fields(name) for name in ("DEFINITION", "VERSION", "ACCESSION", "SOURCE", "ORIGIN")}
    except Exception as bad:  # what Biotite raises for a damaged record is not of one kind
        return RowError(file, number, f"it cannot be read as GenBank ({bad}); fetch it again.", _UNIT)
    sequence = re.sub(r"[\d\s]", "", "".join(_lines(found["ORIGIN"])))
    words = " ".join((*_lines(found["VERSION"]), *_lines(found["ACCESSION"]), *block[start].split()[1:2])).split()
    name = next((word for word in words if word != "."), f"record {number}")
    said = _LENGTH.search(block[start])
    if not sequence:
        return RowError(file, number, f'"{name}" has no sequence (ORIGIN); fetch it with its sequence.', _UNIT)
    if said and int(said[1]) != len(sequence):
        reason = f'expected {said[1]} letters as LOCUS of "{name}" says, found {len(sequence)}; fetch it again.'
        return RowError(file, number, reason, _UNIT)
    text = " ".join(map(str.strip, _lines(found["DEFINITION"]))).removesuffix(".")
    return {"id": name, "description": text, "sequence": sequence, "organism": _organism(found["SOURCE"])}


def _lines(fields: list[tuple[list[str], Mapping[str, list[str]]]]) -> list[str]:
    return list(fields[0][0]) if fields else []


def _organism(fields: list[tuple[list[str], Mapping[str, list[str]]]]) -> str | None:
    inside = fields[0][1].get("ORGANISM") if fields else None
    return inside[0].strip() if inside else None
