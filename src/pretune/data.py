"""Records and documents from whatever the user has, with fingerprints and splits; no row is lost silently."""

from __future__ import annotations

__all__ = [
    "AUDIO_COLUMNS",
    "DNA_COLUMNS",
    "ID_COLUMNS",
    "IMAGE_COLUMNS",
    "LABEL_COLUMNS",
    "PROTEIN_COLUMNS",
    "ROLES",
    "TAG_COLUMNS",
    "TEXT_COLUMNS",
    "TOKEN_COLUMNS",
    "CorpusCounts",
    "Document",
    "Documents",
    "RowError",
    "documents",
    "fingerprint",
    "read_records",
    "split",
    "stream_records",
    "tables_of",
]

import hashlib
import json
import reprlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import datasets
import numpy as np
import pyarrow as pa

from pretune import sources
from pretune.columns import FILE_ROLES, Columns
from pretune.errors import ConfigError, DataError
from pretune.formats import below
from pretune.readers import Line, RowError, Table, lines
from pretune.sources import Source
from pretune.splits import split

Record: TypeAlias = dict[str, Any]

TEXT_COLUMNS: Mapping[str, Sequence[str]] = {
    "text": (
        *("text", "sentence", "sentence1", "premise", "review", "content", "document", "title", "body"),
        *("question1", "question", "text1", "text_a", "comment", "description", "utterance"),
    ),
    "text_pair": ("text_pair", "sentence2", "hypothesis", "question2", "text2", "text_b"),
}
"""Usual column names of one text or a pair, best first."""

IMAGE_COLUMNS: Mapping[str, Sequence[str]] = {
    "image": ("image", "path", "file", "file_name", "filename", "image_path", "img"),
}
"""Usual names of the column of images: paths, or their content."""

AUDIO_COLUMNS: Mapping[str, Sequence[str]] = {
    "audio": ("audio", "path", "file", "file_name", "filename", "wav", "audio_path", "audio_filepath"),
}
"""Usual names of the column of recordings: paths, or their content."""

DNA_COLUMNS: Mapping[str, Sequence[str]] = {
    "sequence": ("sequence", "seq", "dna", "dna_sequence", "dna_seq", "rna", "text"),
}
PROTEIN_COLUMNS: Mapping[str, Sequence[str]] = {
    "sequence": ("sequence", "seq", "protein", "protein_sequence", "aa_seq", "primary", "mutated_sequence", "text"),
}
"""Usual names of the column of biological sequences; a table may have both sorts."""

ID_COLUMNS: Mapping[str, Sequence[str]] = {"id": ("id", "name", "entry", "accession", "pdb_id", "header")}
"""Usual names of the column that names a sequence."""

LABEL_COLUMNS = (
    *("label", "labels", "class", "category", "target", "sentiment", "score"),
    *("rating", "stars", "intent", "topic", "coarse_label", "y"),
)
TOKEN_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("tags", "ner_tags", "labels")

ROLES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "classification": {**TEXT_COLUMNS, "label": LABEL_COLUMNS},
    "regression": {**TEXT_COLUMNS, "label": LABEL_COLUMNS},
    "tagging": {"tokens": TOKEN_COLUMNS, "tags": TAG_COLUMNS},
}
"""For each text task: its roles, and the usual column names of each, best first."""

BOUNDARIES = ("line", "blank", "file")
_CHUNK = 10_000


def stream_records(
    source: Source,
    *,
    roles: Mapping[str, Sequence[str]],
    columns: Mapping[str, str] = {},
    required: Collection[str] = (),
) -> Iterator[tuple[Record | None, RowError | None]]:
    """Reads records one by one, in input order, whatever the size of the source.

    Args:
        source: Path, ``folder:split``, Hub name, ``-`` (stdin), DataFrame, list or Dataset.
        roles: Usual column names of each role, best first.
        columns: The column of a role where it has another name; also further columns to keep, by role.
        required: Roles that every row must have, with a value that is not empty.

    Yields:
        ``(record, None)``, the record having the roles as keys and ``_file`` and ``_row``; or, for a row that
        cannot be used, ``(None, error)``, the error having ``file`` and ``row``.

    Raises:
        DataError: The source as a whole cannot be used: no such path, a missing column, a damaged file.
    """
    for item in _records(source, roles, columns, required):
        yield (None, item) if isinstance(item, RowError) else (item, None)


def read_records(
    source: Source,
    *,
    roles: Mapping[str, Sequence[str]],
    columns: Mapping[str, str] = {},
    required: Collection[str] = (),
) -> datasets.Dataset:
    """Reads all records; arguments as for `stream_records`.

    Returns:
        Columns named by role (those found), ``_file`` and ``_row`` (1-based; the line in text files).

    Raises:
        DataError: The source or any of its rows cannot be used.
    """
    names: dict[str, None] = {}
    chunks: list[pa.Table] = []
    rows: list[Record] = []
    for item in _records(source, roles, columns, required):
        if isinstance(item, RowError):
            raise item
        names.update((role, None) for role, value in item.items() if value is not None)
        rows.append(item)
        if len(rows) == _CHUNK:
            chunks.append(_to_arrow(rows, names))
            rows = []
    chunks.append(_to_arrow(rows, names))
    table = pa.concat_tables(chunks, promote_options="permissive")
    return datasets.Dataset(table)


def _to_arrow(rows: Sequence[Record], names: Iterable[str]) -> pa.Table:
    return pa.table({name: _array(name, [row.get(name) for row in rows]) for name in names})


def _array(name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as bad:
        raise DataError(f'The values of "{name}" are not all of one type ({bad}); make them alike.') from bad


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true/false"
    names = {str: "text", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), type(value).__name__)


def _other_kind(record: Record, kinds: dict[str, tuple[str, Record]]) -> RowError | None:
    """The error of a value that is not of the type that its role had before, as numbers among texts."""
    for role, value in record.items():
        if role.startswith("_") or value is None:
            continue
        kind, first = kinds.setdefault(role, (_kind(value), record))
        if kind != _kind(value):
            other = f"that of {first['_file']} row {first['_row']} is {kind}"
            shown = reprlib.repr(value) if isinstance(value, dict) else repr(value)  # files may be in it
            reason = f"the {role} {shown} is {_kind(value)}, {other}; use one type in all rows."
            return RowError(record["_file"], record["_row"], reason)
    return None


def _records(
    source: Source, roles: Mapping[str, Sequence[str]], columns: Mapping[str, str], required: Collection[str]
) -> Iterator[Record | RowError]:
    found = False
    kinds: dict[str, tuple[str, Record]] = {}
    for table in tables_of(source, roles, columns, required):
        for item in _table_records(table, Columns(roles, columns, required)):
            found = True
            yield item if isinstance(item, RowError) else _other_kind(item, kinds) or item
    if not found and source != sources.STDIN:
        raise DataError(f"{_name(source)} has no rows; give data with at least one row.")


def tables_of(
    source: Source, roles: Mapping[str, Sequence[str]], columns: Mapping[str, str], required: Collection[str]
) -> Iterator[Table]:
    """The tables that `stream_records` reads, with all their columns."""
    medium = next((m for m in ("image", "audio", "sequence") if m in roles), "text")
    conll = medium == "text" and ("tags" in roles or ("tokens" in roles and "text" not in roles))
    tabled = bool(columns or set(required) - {medium, "label"})
    return sources.tables(source, labelled="label" in roles, tabled=tabled, conll=conll, medium=medium)


def _name(source: Source) -> str:
    return f'"{source}"' if isinstance(source, str | Path) else f"The {type(source).__name__}"


def _table_records(table: Table, wanted: Columns) -> Iterator[Record | RowError]:
    needed = None
    if table.columns is not None:
        chosen = wanted.choose(table.columns, table.file, table.hint)
        needed = list(dict.fromkeys(chosen.values())) or None  # of no column, some formats give no rows
    for number, row in table.rows(needed):
        if isinstance(row, RowError):
            yield row
            continue
        try:
            record = wanted.record(row)
        except ValueError as bad:
            yield RowError(table.file, number, str(bad), table.unit)
        else:
            if table.base is not None:
                record |= {k: str(table.base / v) for k in FILE_ROLES if isinstance(v := record.get(k), str)}
            yield {**record, "_file": table.file, "_row": number}


class Document(NamedTuple):
    """One document of an unlabelled corpus and where it begins (row: 1-based; the line in text files)."""

    text: str
    file: str
    row: int


@dataclass
class CorpusCounts:
    """What was seen while documents were read; lines are rows in other formats than ``.txt``.

    Attributes:
        num_files: Files, or data sets, begun so far.
        num_lines: Lines, empty ones included.
        num_empty: Lines of white space alone.
        num_blocks: Runs of lines that are not empty.
        plain: Whether all files so far were ``.txt``.
    """

    num_files: int = 0
    num_lines: int = 0
    num_empty: int = 0
    num_blocks: int = 0
    plain: bool = True


class Documents(Iterator[Document]):
    """Streams documents in O(1) memory; `counts` says what was read so far, also how many lines were empty.

    Args:
        source: As for `stream_records`, but not stdin.
        text_column: The column of the text; None finds it by the usual names.
        boundary: What a document is in ``.txt`` files: ``line``, ``blank`` (lines up to an empty one) or
            ``file``; in other formats a row is a document. Empty lines and rows are no documents.

    Raises:
        ConfigError: An unknown boundary, or one other than ``line`` for data in rows.
        DataError: The source, a row or a line cannot be used.
    """

    def __init__(self, source: Source, *, text_column: str | None = None, boundary: str = "line") -> None:
        if boundary not in BOUNDARIES:
            raise ConfigError(f'There is no boundary "{boundary}"; there are: {", ".join(BOUNDARIES)}.')
        if isinstance(source, str) and source == sources.STDIN:
            raise DataError('A corpus cannot be read from "-" because it is read twice; write it to a file first.')
        self.counts = CorpusCounts()
        columns = {} if text_column is None else {"text": text_column}
        roles = {"text": TEXT_COLUMNS["text"]}
        self._wanted = partial(Columns, roles, columns, required=("text",), empty=True)
        self._source, self._boundary = source, boundary
        self._items = self.tolerant()

    def __next__(self) -> Document:
        item = next(self._items)
        if isinstance(item, RowError):
            raise item
        return item

    def tolerant(self) -> Iterator[Document | RowError]:
        """Starts anew and yields the error of a bad row in its place instead of raising it."""
        self.counts, found = CorpusCounts(), False
        for item in self._every():
            found = True
            yield item
        if not found:
            raise DataError(f"{_name(self._source)} has no text ({self.counts.num_lines} lines, all empty).")

    def _every(self) -> Iterator[Document | RowError]:
        for table in sources.tables(self._source):
            self.counts.num_files += 1
            if table.unit == "line" and table.columns == ["text"]:
                self._wanted().choose(table.columns, table.file, table.hint)
                yield from self._of_text(table.file, lines(Path(table.file)))
            else:
                yield from self._of_rows(table)

    def _of_rows(self, table: Table) -> Iterator[Document | RowError]:
        if self._boundary != "line":
            raise ConfigError(
                f'The boundary "{self._boundary}" is for .txt files; in {table.file} each row is a document: '
                "leave --boundary out."
            )
        self.counts.plain = False
        for item in _table_records(table, self._wanted()):
            self.counts.num_lines += 1
            if isinstance(item, RowError):
                yield item
            elif (item.get("text") or "").strip():
                self.counts.num_blocks += 1
                yield Document(item["text"], table.file, item["_row"])
            else:
                self.counts.num_empty += 1

    def _of_text(self, file: str, source: Iterable[Line]) -> Iterator[Document | RowError]:
        counts, block, start, in_block = self.counts, list[str](), 1, False
        for number, text, error in source:
            blank = not text.strip()
            counts.num_lines += 1
            counts.num_empty += blank
            counts.num_blocks += not blank and not in_block
            in_block = not blank
            if error:
                yield error
            elif self._boundary == "line":
                if not blank:
                    yield Document(text.rstrip("\r\n"), file, number)
            elif not blank or (block and self._boundary == "file"):
                start = start if block else number
                block.append(text.rstrip("\r\n"))
            elif block:
                yield Document("\n".join(block), file, start)
                block.clear()
        if block:
            yield Document("\n".join(block).rstrip(), file, start)


def documents(source: Source, *, text_column: str | None = None, boundary: str = "line") -> Documents:
    """The documents of a corpus for pre-training, streamed: see `Documents`."""
    return Documents(source, text_column=text_column, boundary=boundary)


def fingerprint(source: Source) -> str:
    """A hash of the content: of the bytes and names of files, or of the rows of what is in memory.

    A Hub data set is hashed by the fingerprint that `datasets` gives its downloaded files.

    Raises:
        DataError: The source does not exist or cannot be read.
    """
    if isinstance(source, str) and source == sources.STDIN:
        raise DataError('"-" cannot be read twice, so it has no fingerprint; write it to a file first.')
    digest = hashlib.blake2b(digest_size=16)
    found = sources.locate(source) if isinstance(source, str | Path) else source
    if isinstance(found, sources.Local):
        digest.update((found.split or "").encode())
        for file in found.files:
            # a file's own name does not count, its place in a folder may be its label
            digest.update("/".join(below(file, found.root)).encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, partial(hashlib.blake2b, digest_size=16)).digest())
        return digest.hexdigest()
    if isinstance(found, sources.Hub):
        digest.update(sources.load_hub(found)._fingerprint.encode())
        return digest.hexdigest()
    for table in sources.tables(found, medium=None):
        digest.update(json.dumps(table.columns).encode())
        for _, row in table.rows(None):
            digest.update(json.dumps(str(row) if isinstance(row, RowError) else row, default=_content).encode())
    return digest.hexdigest()


def _content(value: Any) -> str:
    """What JSON cannot hold, as text; of arrays and pictures a hash, as their text is shortened."""
    if isinstance(value, bytes | bytearray):
        return hashlib.blake2b(value, digest_size=16).hexdigest()
    if isinstance(value, np.ndarray) or hasattr(value, "convert"):
        array = np.asarray(value)
        return f"{array.dtype} {array.shape} {_content(array.tobytes())}"
    return str(value)
