"""From the markup of a docstring to plain English paragraphs."""

from __future__ import annotations

__all__ = ["key", "paragraphs"]

import inspect
import re
from collections.abc import Iterable, Iterator

_KEPT_DIRECTIVES = re.compile(r"\.\. *(?:note|warning|tip|caution|important|attention)\s*::\s*(.*)")
_UNDERLINE = re.compile(r"\s*([-=~^\"#*+_])\1{2,}\s*$")
_HEADING = re.compile(r"\s*[A-Z][a-z]*(?: [A-Za-z]+){0,2}:\s*$")
_FIELD = re.compile(r":(?:param|type|return|returns|rtype|raises?|arg|keyword|ivar|cvar|var)\b[^:]*:\s*(.*)")
_NUMPY_PARAMETER = re.compile(r"\s*[*\w][\w.*, '\"\[\]]*\s:(?:\s.*)?$")
_GOOGLE_PARAMETER = re.compile(r"(?:\s+[-*]?\s*|[-*]\s+)[*`]*\w[\w.]*[*`]*\s*(?:\([^:]*\))?\s*(?::|--)\s+(.*)")
_TABLE = re.compile(r"\s*(?:\||\+[-=]|[=-]{3,}\s+[=-]{3,})")
_BULLET = re.compile(r"\s*(?:[-*•+]|\d+[.)])\s+(.*)")

_INLINE = [
    (":", re.compile(r":math:`[^`]*`"), ""),
    ("$", re.compile(r"\$[^$\n]+\$"), ""),
    ("\\", re.compile(r"\\\([^)]*\\\)"), ""),
    (":", re.compile(r":[\w:+-]+:`~(?:[\w.]*\.)?([\w]+)(?:\(\))?`"), r"\1"),
    (":", re.compile(r":[\w:+-]+:`([^`<]*?)\s*(?:<[^>`]*>)?`"), r"\1"),
    ("](", re.compile(r"!?\[([^\]\n]*)\]\([^)\s]*\)"), r"\1"),
    ("`", re.compile(r"`([^`<]+?)\s*<[^>`]*>`_*"), r"\1"),
    ("[", re.compile(r"\[\[?[#\w]+\]?\]_?"), ""),
    ("<", re.compile(r"</?\w[^>]{0,80}>"), ""),
    ("://", re.compile(r"(?:https?|ftp)://\S+"), ""),
    ("`", re.compile(r"`+([^`]*)`+_{0,2}"), r"\1"),
    ("*", re.compile(r"\*{1,2}([^*\s](?:[^*]*[^*\s])?)\*{1,2}"), r"\1"),
    ("|", re.compile(r"\|(\w+)\|"), r"\1"),
    (" ", re.compile(r" +([,.;:!?)])"), r"\1"),
]
"""(text without which the pattern cannot match, pattern, replacement), applied in this order."""

_WORD = re.compile(r"[(\"']*[A-Za-z]+(?:['’-][A-Za-z]+)*[.,;:!?)\"']*$")
_NAME = re.compile(r"\w+")


def paragraphs(docstring: str, *, min_words: int = 4, min_share: float = 0.7) -> list[str]:
    """The prose of a docstring: no code, doctests, tables, headings, parameter names or markup.

    Args:
        docstring: As written in the source; reStructuredText, Markdown, numpy or Google style.
        min_words: A paragraph with fewer plain words is dropped.
        min_share: A paragraph in which a smaller share of the tokens is plain words is dropped.

    Returns:
        One line of text a paragraph.
    """
    lines = list(_without_blocks(inspect.cleandoc(docstring).expandtabs().splitlines()))
    return [text for block in _blocks(lines) if _is_prose(text := _plain(block), min_words, min_share)]


def key(text: str) -> str:
    """A form in which near-identical texts are equal: lower-case words, "x" for numbers and identifiers."""
    return " ".join(w.lower() if w.isalpha() and w[1:].islower() else "x" for w in _NAME.findall(text))


def _is_prose(text: str, min_words: int, min_share: float) -> bool:
    tokens = text.split()
    num_words = sum(bool(_WORD.match(t)) for t in tokens)
    return num_words >= min_words and num_words >= min_share * len(tokens)


def _plain(text: str) -> str:
    """Removes inline markup and needless space."""
    text = " ".join(text.split())
    for needed, pattern, replacement in _INLINE:
        if needed in text:
            text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _without_blocks(lines: list[str]) -> Iterator[str]:
    """Drops fenced and literal blocks, doctests and directives; an empty line stands in their place."""
    fence = doctest = False
    hidden: int | None = None  # indentation of the line that opened a block to drop
    for line in lines:
        text = line.strip()
        if hidden is not None and text and _indent(line) <= hidden:
            hidden = None
        if text.startswith(("```", "~~~~")):
            fence = not fence
            yield ""
            continue
        doctest = bool(text) and (doctest or text.startswith((">>>", "In [")))
        if fence or doctest or hidden is not None:
            yield ""
        elif text.startswith("..") and not text.startswith("..."):
            kept = _KEPT_DIRECTIVES.match(text)
            hidden = None if kept else _indent(line)
            yield kept.group(1) if kept else ""
        elif text.endswith("::"):
            hidden = _indent(line)
            yield line.rstrip()[:-1]
        else:
            yield line


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    """Joins lines to paragraphs; headings, tables and parameter lines end one and are dropped."""
    block: list[str] = []
    for line in lines:
        starts, kept, drop_previous = _classify(line)
        if drop_previous and block:
            block.pop()
        if starts and block:
            yield " ".join(block)
            block = []
        if kept:
            block.append(kept)
    yield " ".join(block)


def _classify(line: str) -> tuple[bool, str, bool]:
    """(a paragraph ends before this line, the text to keep of it, the line before was a heading)."""
    text = line.strip()
    if not text or _HEADING.match(line) or _TABLE.match(line):
        return True, "", False
    if not text[0].isalnum() and _UNDERLINE.match(line):
        return True, "", True
    if ":" in text or "--" in text:
        if _NUMPY_PARAMETER.match(line):
            return True, "", False
        if found := _FIELD.match(line) or _GOOGLE_PARAMETER.match(line):
            return True, found.group(1), False
    if found := _BULLET.match(line):
        return False, found.group(1), False
    return False, text.lstrip("#> "), False
