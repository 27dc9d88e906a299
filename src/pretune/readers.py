"""Files to rows: each row is its values, or the error that says which line cannot be read and why."""

from __future__ import annotations

__all__ = [
    *("Line", "RowError", "RowStream", "Table"),
    *("decoded", "file_table", "json_rows", "lines", "open_binary", "text_rows"),
]

import csv
import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

from pretune.class_names import class_names, with_names
from pretune.errors import DataError
from pretune.formats import format_of

_NO_LABELS = (
    " A plain text file holds text only: give .csv, .tsv, .jsonl or .parquet with columns, "
    "or a folder with one sub-folder of .txt files for each label."
)
_HEADER = " The first line must hold the column names."
_FIELD_LIMIT = 2**31 - 1


class RowError(DataError):
    """One row that cannot be used; the rows around it can."""

    def __init__(self, file: str, row: int, reason: str, unit: str = "row") -> None:
        super().__init__(file, row, reason, unit)
        self.file, self.row, self.reason, self.unit = file, row, reason, unit

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.row}: {self.reason}"


class Line(NamedTuple):
    """A line of a text file; `error` is set when it is not UTF-8 (then `text` has replacement characters)."""

    number: int
    text: str
    error: RowError | None


RowStream: TypeAlias = Iterator[tuple[int, dict[str, Any] | RowError]]
"""Row numbers (1-based; the line in text files) with the row's values or its error."""


@dataclass(frozen=True)
class Table:
    """One file, data set or list as a stream of rows.

    Attributes:
        file: Its name in messages and in the column ``_file``.
        columns: The columns that every row has; None when each row names its own (JSON).
        rows: Starts reading; takes the names of the needed columns (others may be left out).
        unit: What a row number counts: ``line`` or ``row``.
        hint: A sentence for the message when a column is missing.
        base: The folder that relative paths in its rows start from.
    """

    file: str
    columns: Sequence[str] | None
    rows: Callable[[Sequence[str] | None], RowStream]
    unit: str = "row"
    hint: str = ""
    base: Path | None = None


def file_table(path: Path, *, conll: bool = False) -> Table:
    """The rows of one file.

    Args:
        path: A file of text or a table: its ending is in `FORMATS`.
        conll: Read ``.txt`` as CoNLL columns, not as a text a line.

    Raises:
        DataError: The file cannot be opened, or its header cannot be read.
    """
    file, kind = str(path), format_of(path)
    if kind == "conll" or (kind == "text" and conll):
        return Table(file, ["tokens", "tags"], lambda _: _conll_rows(file, lines(path)), "line")
    if kind in ("csv", "tsv"):
        return _csv_table(path, kind)
    if kind == "parquet":
        return _parquet_table(path)
    if kind == "json" and _starts_with_list(path):
        return Table(file, None, lambda _: _json_rows(path), base=path.parent)
    if kind in ("json", "jsonl"):
        return Table(file, None, lambda _: json_rows(file, lines(path)), "line", base=path.parent)
    return Table(file, ["text"], lambda _: text_rows(lines(path)), "line", _NO_LABELS)


def open_binary(path: Path) -> BinaryIO:
    """Opens a file for reading bytes, through gzip when it ends in ``.gz``.

    Raises:
        DataError: It cannot be opened.
    """
    try:
        return cast(BinaryIO, gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb"))
    except OSError as error:
        raise DataError(f'Cannot open "{path}": {error.strerror}; check the path and its permissions.') from error


def lines(path: Path) -> Iterator[Line]:
    """Lines of a text file, with their ends, decoded one by one so that a broken one spoils no other.

    Raises:
        DataError: The file cannot be opened, or the compressed stream is damaged.
    """
    with open_binary(path) as stream:
        try:
            yield from decoded(str(path), stream)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(
                f'"{path}" is damaged or not gzip ({error}); fetch it again or remove ".gz" from its name.'
            ) from error


def decoded(file: str, stream: Iterable[bytes]) -> Iterator[Line]:
    """UTF-8 lines of a byte stream; a line that is not UTF-8 comes with its error."""
    offset = 0
    for number, raw in enumerate(stream, 1):
        try:
            text, error = raw.decode(), None
        except UnicodeDecodeError as bad:
            text, error = raw.decode(errors="replace"), _not_utf8(file, number, offset, raw, bad)
        yield Line(number, text.removeprefix("\ufeff") if number == 1 else text, error)
        offset += len(raw)


def _not_utf8(file: str, number: int, offset: int, raw: bytes, bad: UnicodeDecodeError) -> RowError:
    utf16 = number == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    encoding = "UTF-16" if utf16 else "LATIN1"
    reason = (
        f"expected UTF-8 text, found the byte 0x{raw[bad.start]:02x} at byte offset {offset + bad.start}; "
        f"convert the file, for instance: iconv -f {encoding} -t UTF-8 OLD > NEW."
    )
    return RowError(file, number, reason, "line")


def text_rows(source: Iterable[Line], role: str = "text") -> RowStream:
    """A text a line."""
    for number, text, error in source:
        yield number, error or {role: text.rstrip("\r\n")}


def json_rows(file: str, source: Iterable[Line]) -> RowStream:
    """A JSON object a line; lines of white space are no rows."""
    for number, text, error in source:
        if error or text.strip():
            yield number, error or _json_object(file, number, text)


def _json_object(file: str, number: int, text: str) -> dict[str, Any] | RowError:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as bad:
        what = bad.msg if isinstance(bad, json.JSONDecodeError) else str(bad)
        return RowError(file, number, f"not valid JSON ({what}): {_short(text)}; expected an object a line.", "line")
    if not isinstance(value, dict):
        return RowError(file, number, f"expected a JSON object, found {_short(text)}.", "line")
    return value


def _short(text: str, width: int = 40) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= width else text[: width - 3] + "...")


def _starts_with_list(path: Path) -> bool:
    with open_binary(path) as stream:
        try:
            return stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
        except (gzip.BadGzipFile, EOFError, zlib.error):
            return False


def _json_rows(path: Path) -> RowStream:
    """The items of one JSON list; read whole, unlike all other formats."""
    pieces = []
    for line in lines(path):
        if line.error:
            raise line.error
        pieces.append(line.text)
    try:
        items = json.loads("".join(pieces))
    except (ValueError, RecursionError) as bad:
        raise DataError(f'"{path}" is not valid JSON ({bad}); correct it, or give a .jsonl file.') from bad
    for number, item in enumerate(items, 1):
        wrong = RowError(str(path), number, f"expected a JSON object, found {_short(json.dumps(item))}.")
        yield number, item if isinstance(item, dict) else wrong


def _csv_table(path: Path, kind: str) -> Table:
    head = next(lines(path), None)
    if head is None:
        raise DataError(f'"{path}" is empty; expected column names in its first line and a row a line after it.')
    if head.error:
        raise head.error
    if "\0" in head.text:
        raise DataError(f'"{path}" is no text file (it has zero bytes); expected CSV in UTF-8: export it again.')
    separator = "\t" if kind == "tsv" else _separator(head.text)
    # a quoted column name may hold a line break: read as many lines as the header needs
    columns = _header(path, separator) if kind == "csv" else head.text.rstrip("\r\n").split("\t")
    columns = [c.strip().strip('"') if kind == "tsv" else c.strip() for c in columns]
    twice = [c for i, c in enumerate(columns) if c and c in columns[:i]]
    if twice:
        raise DataError(f'"{path}" names the column "{twice[0]}" twice; rename one of them.')
    read = _csv_rows if kind == "csv" else _tsv_rows
    return Table(str(path), columns, lambda _: read(path, columns, separator), "line", _HEADER, path.parent)


def _separator(head: str) -> str:
    """Comma, unless the header has none and has semicolons or tabs (spreadsheets of many countries)."""
    return next((s for s in ",;\t" if s in head), ",")


def _header(path: Path, separator: str) -> list[str]:
    try:
        return next(csv.reader((line.text for line in lines(path)), delimiter=separator, strict=True))
    except csv.Error as bad:
        raise DataError(f'The first line of "{path}" is not a CSV header ({bad}); correct its quotes.') from bad


def _csv_rows(path: Path, columns: Sequence[str], separator: str) -> RowStream:
    csv.field_size_limit(_FIELD_LIMIT)
    file, broken = str(path), []

    def feed() -> Iterator[str]:
        for line in lines(path):
            if line.error:
                broken.append(line.error)
            yield line.text

    reader = csv.reader(feed(), delimiter=separator, strict=True)
    next(reader)
    while True:
        start = reader.line_num + 1
        broken.clear()
        try:
            fields = next(reader, None)
        except csv.Error as bad:
            yield (
                start,
                RowError(file, start, f"not valid CSV ({bad}); double the quotes inside quotes.", "line"),
            )
            continue
        if fields is None:
            return
        if fields or broken or len(columns) == 1:
            yield start, broken[0] if broken else _named(file, start, columns, fields or [""])


def _tsv_rows(path: Path, columns: Sequence[str], separator: str) -> RowStream:
    """Tab-separated rows: quotes are taken as quoting only where that gives the right number of fields."""
    csv.field_size_limit(_FIELD_LIMIT)
    if _breaks_lines(path, len(columns)):
        yield from _csv_rows(path, columns, separator)
        return
    for number, text, error in itertools.islice(lines(path), 1, None):
        text = text.rstrip("\r\n")
        if error or text or len(columns) == 1:
            fields = _unquoted(text, len(columns)) or text.split(separator)
            yield number, error or _named(str(path), number, columns, fields)


def _breaks_lines(path: Path, width: int) -> bool:
    """Whether quoted fields hold line breaks, as pandas writes them; single quotes, as in GLUE, make no such table."""
    if not any(text.count('"') % 2 and (text.startswith('"') or '\t"' in text) for _, text, _ in lines(path)):
        return False
    try:
        rows = [len(fields) for fields in csv.reader((t for _, t, _ in lines(path)), delimiter="\t", strict=True)]
    except csv.Error:
        return False
    return set(rows) <= {0, width}


def _unquoted(text: str, width: int) -> list[str] | None:
    if '"' not in text:
        return None
    try:
        fields = next(csv.reader([text], delimiter="\t", strict=True))
    except csv.Error:
        return None
    return fields if len(fields) == width else None


def _named(file: str, row: int, columns: Sequence[str], fields: Sequence[str]) -> dict[str, Any] | RowError:
    if len(fields) != len(columns):
        reason = (
            f"expected {len(columns)} fields as in the header, found {len(fields)}; "
            "quote the fields that contain the separator or a line break."
        )
        return RowError(file, row, reason, "line")
    return dict(zip(columns, fields, strict=True))


def _parquet_table(path: Path) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
    except (pa.ArrowInvalid, OSError) as bad:
        raise DataError(f'"{path}" is not a parquet file that can be read ({bad}); write it again.') from bad
    return Table(str(path), schema.names, lambda needed: _parquet_rows(path, needed), base=path.parent)


def _parquet_rows(path: Path, needed: Sequence[str] | None) -> RowStream:
    from datasets import Features
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        names = class_names(Features.from_arrow_schema(file.schema_arrow))
        batches = file.iter_batches(batch_size=512, columns=list(needed) if needed is not None else None)
        rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        for number, row in enumerate(rows, 1):
            yield number, with_names(row, names)


def _conll_rows(file: str, source: Iterable[Line]) -> RowStream:
    """A sentence a row: token in the first column, tag in the last; ends at blank lines and -DOCSTART-."""
    for start, block in _sentences(source):
        error = next((line.error for line in block if line.error), None)
        yield start, error or _sentence(file, block)


def _sentences(source: Iterable[Line]) -> Iterator[tuple[int, list[Line]]]:
    block: list[Line] = []
    for line in source:
        text = line.text.strip()
        if not text or text.startswith("-DOCSTART-"):
            if block:
                yield block[0].number, block
            block = []
        elif block or not (text.startswith("#") and "=" in text):  # "# id = 3": a comment of CoNLL-U
            block.append(line)
    if block:
        yield block[0].number, block


def _sentence(file: str, block: Sequence[Line]) -> dict[str, Any] | RowError:
    cells = [line.text.rstrip("\r\n").split("\t" if "\t" in line.text else None) for line in block]
    width = len(cells[0])
    for line, row in zip(block, cells, strict=True):
        if len(row) != width:
            reason = (
                f"expected {width} columns as in the sentence's first line, found {len(row)}: "
                f"{_short(line.text)}; give every token its tag and separate sentences by a blank line."
            )
            return RowError(file, line.number, reason, "line")
    tags = [row[-1] for row in cells] if width > 1 else None
    return {"tokens": [row[0] for row in cells], "tags": tags}
