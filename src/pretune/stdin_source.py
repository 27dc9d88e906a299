"""What is piped in, as rows."""

from __future__ import annotations

__all__ = ["stdin_table"]

import itertools
import sys

from pretune.readers import Table, decoded, json_rows, text_rows
from pretune.sequence_reading import fasta_rows


def stdin_table(medium: str | None) -> Table:
    """The rows of standard input, by its first line with text.

    JSON objects when it begins with ``{``; for sequences FASTA when it begins with ``>``; else a text, a sequence or
    the path of a file a line.
    """
    stream = decoded("stdin", sys.stdin.buffer)
    head = []
    for line in stream:
        head.append(line)
        if line.text.strip():
            break
    if not head:
        from pretune.progress import say  # which needs the loop, and that the data

        say("standard input is empty")
    every = itertools.chain(head, stream)
    first = head[-1].text.lstrip()[:1] if head else ""
    if first == "{":
        return Table("stdin", None, lambda _: json_rows("stdin", every), "line")
    if first == ">" and medium == "sequence":
        return Table("stdin", None, lambda _: fasta_rows("stdin", every), "record")
    role = medium or "text"
    return Table("stdin", [role], lambda _: text_rows(every, role), "line")
