"""The folders are the registry: a file is a method, its name is the command-line word."""

from __future__ import annotations

__all__ = ["SLOTS", "alternatives", "build", "build_all", "classes", "find", "names", "spec", "summary"]

import ast
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pretune.errors import ConfigError, did_you_mean
from pretune.method import Method

SLOTS = {
    "modality": "modalities",
    "objective": "objectives",
    "task": "tasks",
    "strategy": "strategies",
    "explainer": "explainers",
}
"""What can be chosen by name, and the folder (and entry-point group ``pretune.<folder>``) that holds it."""


def _modules(slot: str) -> dict[str, str]:
    """Maps each name to the module that holds it, without importing any."""
    folder = SLOTS[slot]
    files = sorted((Path(__file__).parent / folder).glob("*.py"))
    own = {f.stem: f"pretune.{folder}.{f.stem}" for f in files if f.stem not in ("__init__", "base")}
    others = importlib.metadata.entry_points(group=f"pretune.{folder}")
    return own | {e.name: e.value for e in others}


def names(slot: str) -> list[str]:
    """The words that may be chosen for `slot`, sorted."""
    return sorted(_modules(slot))


def classes(slot: str) -> list[Any]:
    """Every class that may be chosen for `slot`, by name."""
    return [find(slot, name) for name in names(slot)]


def summary(slot: str, name: str) -> str:
    """First line of the module's docstring; read without importing it."""
    module = _modules(slot)[name]
    spec = importlib.util.find_spec(module.partition(":")[0])
    if spec is None or spec.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def find(slot: str, name: str) -> type[Method]:
    """Imports the class behind a name.

    Raises:
        ConfigError: The name is not known; the message lists what is.
    """
    known = _modules(slot)
    if name not in known:
        listed = ", ".join(sorted(known))
        raise ConfigError(f'There is no {slot} "{name}"; there are: {listed}.{did_you_mean(name, known)}')
    module_name, _, attribute = known[name].partition(":")
    module = importlib.import_module(module_name)
    if attribute:
        return cast(type[Method], getattr(module, attribute))
    found = [c for c in vars(module).values() if _defined_in(c, module_name)]
    return cast(type[Method], found[-1])


def _defined_in(thing: Any, module_name: str) -> bool:
    return (
        isinstance(thing, type)
        and issubclass(thing, Method)
        and thing.__module__ == module_name
        and not thing.__name__.startswith("_")
    )


def build(slot: str, spec: str | dict[str, Any] | Method) -> Any:
    """Makes the method that `spec` describes.

    Args:
        slot: One of `SLOTS`.
        spec: A name, a mapping with ``name`` and options, or an instance (returned as it is).

    Raises:
        ConfigError: Unknown name, or an option that the method does not have.
    """
    if isinstance(spec, Method):
        return spec
    fields = {"name": spec} if isinstance(spec, str) else dict(spec)
    cls = find(slot, fields.pop("name"))
    for option in fields:
        if option not in (known := cls.option_names()):
            listed = ", ".join(known) or "none"
            hint = did_you_mean(option, known)
            raise ConfigError(f'{slot} has no option "{option}"; its options: {listed}.{hint}')
    return cls(**fields)


def build_all(slot: str, spec: Any) -> list[Any]:
    """Makes several methods: ``"l2sp+layer_decay"``, a mapping whose name is so composed, or a list.

    Each option goes to the methods that have it.

    Raises:
        ConfigError: As `build`; also for an option that none of them has.
    """
    if isinstance(spec, Method):
        return [spec]
    if isinstance(spec, list | tuple):
        return [build(slot, s) for s in spec]
    fields = {"name": spec} if isinstance(spec, str) else dict(spec)
    parts = [part.strip() for part in str(fields.pop("name")).split("+")]
    if twice := next((part for i, part in enumerate(parts) if part in parts[:i]), None):
        raise ConfigError(f'{"+".join(parts)} names {slot} "{twice}" twice; name each once.')
    known = {part: find(slot, part).option_names() for part in parts}
    every = [o for options in known.values() for o in options]
    for option in fields:
        if option not in every:
            hint = did_you_mean(option, every)
            raise ConfigError(
                f'{"+".join(parts)} has no option "{option}"; there are: {", ".join(every) or "none"}.{hint}'
            )
    return [build(slot, {"name": p} | {o: fields[o] for o in known[p] if o in fields}) for p in parts]


def alternatives(slot: str, words: str | Sequence[str]) -> list[str]:
    """Several names to choose from: a list, or ``"full,l2sp+layer_decay"``.

    Raises:
        ConfigError: None at all, an unknown name, or one that stands there twice.
    """
    found = [w.strip() for w in words.split(",")] if isinstance(words, str) else list(words)
    for k, word in enumerate(found):
        for part in word.split("+"):
            find(slot, part.strip())
        if word in found[:k]:
            raise ConfigError(f'{slot} "{word}" stands twice in {", ".join(found)}; name each once.')
    if not found:
        raise ConfigError(f"There is no {slot} to choose from in an empty list; name some: {', '.join(names(slot))}.")
    return found


def spec(method: Any) -> Any:
    """What makes a fresh, equal method: the specification itself, or that of an instance."""
    if isinstance(method, Method):
        return method.spec()
    if isinstance(method, list | tuple):
        return [spec(m) for m in method]
    return method
