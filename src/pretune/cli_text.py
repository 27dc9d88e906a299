"""What the command line says: help, and the sentence for a word that it cannot use."""

from __future__ import annotations

__all__ = ["one_sentence", "readable", "reject_unknown"]

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pretune.errors import ConfigError
from pretune.verbs import Verb


def reject_unknown(parser: Any, words: Sequence[str]) -> None:
    """Raises ConfigError, with the closest known one, for an option that the parser does not have."""
    known = [o for a in parser._actions for o in a.option_strings]
    free = tuple(f"{o}." for o in ("--columns",) if o in known)
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in known and not option.startswith(free or "\0"):
            close = difflib.get_close_matches(option, known, n=1, cutoff=0.7)
            shown, meant = _as_typed(option), _as_typed(close[0]) if close else None
            hint = f" Did you mean {meant}?" if meant else f" See `{parser.prog} --help`."
            raise ConfigError(f"There is no option {shown}.{hint}")


def _as_typed(option: str) -> str:
    """An option of the parser as a person writes it."""
    return re.sub(r"^--columns\.(\w+)$", r"--\1_column", option.replace("--from_", "--from").removesuffix(".name"))


def one_sentence(message: str, parser: Any, words: Sequence[str]) -> str:
    """The parser's complaint, without its types and classes."""
    text = " ".join(message.split())
    text = re.sub(r'Parser key "([\w.]+)": ', r"--\1: ", text)
    wrong = re.match(r"--[\w.]+: ", text)
    if wrong and (kinds := [k for k in re.findall(r"[Ee]xpected a <class '(\w+)'>", text) if k != "NoneType"]):
        value = re.search(r"(?:Got value|Given value): (.*)$", text)
        text = f"{wrong[0]}expected {_KINDS.get(kinds[0], kinds[0])}, found {value[1] if value else 'none'}"
    text = re.sub(r"the following arguments are required: (.*)", lambda m: _missing(m[1]), text)
    text = re.sub(r"^argument (--[\w.]+): expected one argument", r"\1 needs a value", text)
    text = re.sub(r"^unrecognized arguments: (\S+)(.*)", lambda m: _misplaced(m[1], m[2], parser, words), text)
    text = text.replace("--from_", "--from").replace(".name", "")
    return f"{text.rstrip('.')}{'' if text.endswith('?') else '.'} See `{parser.prog} --help`."


def _misplaced(word: str, others: str, parser: Any, words: Sequence[str]) -> str:
    wanted = any("--data" in a.option_strings for a in parser._actions)
    given = any(w.partition("=")[0] == "--data" for w in words)
    return f"there is no place for: {word}{others}" + (f"; did you mean --data {word}?" if wanted and not given else "")


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


def _missing(names: str) -> str:
    return f"{', '.join(f'--{name}' for name in names.split(', '))} must be given"


def readable(text: str, verb: Verb) -> str:
    """The parser's help with the options as a person writes them."""
    text = (
        text.replace("--from_ FROM_", "--from FROM  ")
        .replace(" {true,false}", " [true|false]")
        .replace("`from_`", "`--from`")
    )
    text = text.replace("--columns COLUMNS    ", "--ROLE_column COLUMN ").replace(_MAPPING, "e.g. --text_column review")
    for slot in verb.of_run:
        text = text.replace(f"--{slot} {slot.upper()}        ", f"--{slot}.OPTION VALUE")
    for slot in verb.slots:
        text = text.replace(f"--{slot}.name NAME", f"--{slot} NAME     ")
    for word in verb.positional:
        text = text.replace(f"--{word} {word.upper()}", f"{word.upper()}  {' ' * len(word)} ")
    text = re.sub(r"\(type:[^()]*?(?:\[[^()]*\][^()]*?)?,?\s*default:\s+null\)", "", text)
    text = re.sub(r"\((required,\s+)?type:\s[^()]*?(,\s+default:\s[^()]*)?\)", _note, text)
    hints = " ".join(f"`pretune list` and --{slot}.help NAME describe each {slot}." for slot in verb.slots[1:])
    usage = re.sub(r"\s*\n(?=  )", "\n", text.partition("\n\n")[2])
    return f"$ {verb.example}\n\n{usage}{hints}".rstrip()


_MAPPING = 'e.g. ``{"text": "review"}``'


def _note(found: re.Match[str]) -> str:
    if found[1]:
        return "(required)"
    return f"({' '.join(found[2].lstrip(', ').split())})" if found[2] else ""
