"""What the documentation holds: fenced blocks, the commands in them, links and headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))

_FENCE = re.compile(r"^```(\S*)[ ]*([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block; `mark` is what follows the language."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """All fenced blocks of a language, in all pages."""
    found = []
    for page in PAGES:
        content = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(content):
            line = content.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, *match.groups()))
    return [b for b in found if b.language == language]


def links(page: Path) -> list[str]:
    """Targets of the relative links of a page; code does not count."""
    prose = re.sub(r"`[^`\n]+`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))
    return [t for t in _LINK.findall(prose) if not re.match(r"[a-z]+:", t)]


def anchors(page: Path) -> set[str]:
    """What `page.md#...` can point at: its headings as GitHub names them."""
    heads = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


def commands(text: str) -> Iterator[list[str]]:
    """The words after `pretune` of every call of it in shell text, also of `... -m pretune`."""
    for line in text.replace("\\\n", " ").splitlines():
        for words in _simple(line.removeprefix("$ ")):
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words and words[0].rpartition("/")[2] == "pretune":
                yield words[1:]
            elif "pretune" in words and words[words.index("pretune") - 1] == "-m":
                yield words[words.index("pretune") + 1 :]


def _simple(line: str) -> Iterator[list[str]]:
    """Simple commands of a line: cut at | && ; and without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    tokens = iter(lexer)
    for token in tokens:
        if set(token) <= set("<>"):
            next(tokens)
        elif set(token) <= set("|&;"):
            yield words
            words = []
        else:
            words.append(token)
    yield words
