"""The command line: verbs and their options, read from the signatures of the functions behind them."""

from __future__ import annotations

__all__ = ["main"]

import difflib
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pretune import registry
from pretune.errors import ConfigError, PretuneError, did_you_mean


@dataclass(frozen=True)
class _Verb:
    does: str
    example: str
    slots: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()


VERBS = {
    "pretrain": _Verb(
        "learn from unlabelled data",
        "pretune pretrain --data reviews/ --objective bert --out runs/pre --budget 20m",
        ("modality", "objective"),
    ),
    "finetune": _Verb(
        "adapt a pre-trained model to few labels",
        "pretune finetune --from runs/pre --data labels.csv --task classification --strategy l2sp --out runs/ft",
        ("modality", "task", "strategy"),
    ),
    "evaluate": _Verb(
        "metrics with intervals, confusion matrix, calibration",
        "pretune evaluate runs/ft test.csv",
        positional=("run", "data"),
    ),
    "predict": _Verb(
        "one JSON line a record, from a file or standard input",
        "pretune predict runs/ft new.csv > predictions.jsonl",
        positional=("run", "data"),
    ),
    "explain": _Verb(
        "which words decided, and whether that explanation can be trusted",
        'pretune explain runs/ft "a fine film" --out why.html',
        ("explainer",),
        ("run", "data"),
    ),
    "check": _Verb(
        "look for problems in data before any compute is spent",
        "pretune check labels.csv --task classification --test test.csv",
        positional=("data",),
    ),
    "demo": _Verb("the whole way on data that is already on this machine", "pretune demo text", positional=("name",)),
    "list": _Verb("what there is, and its options", "pretune list mlm", positional=("name",)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status (2: the input was wrong, 130: interrupted)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except PretuneError as error:
        interrupted = type(error).__name__ == "Interrupted"
        print(error if interrupted else f"pretune: {error}", file=sys.stderr)
        return 130 if interrupted else 2
    except KeyboardInterrupt:
        print("pretune: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        from pretune import __version__

        print(f"pretune {__version__}")
        return 0
    name = words[0]
    if name not in VERBS:
        raise ConfigError(f'There is no verb "{name}"; there are: {", ".join(VERBS)}.{did_you_mean(name, VERBS)}')
    if name == "list":
        print(_listing(words[1:]))
        return 0
    asked = _asked_for_help(words)
    if asked:
        print(_listing([asked]))
        return 0
    return _run(name, words[1:])


def _help() -> str:
    width = max(map(len, VERBS))
    rows = [f"  {name:<{width}}  {verb.does}\n  {'':<{width}}  $ {verb.example}" for name, verb in VERBS.items()]
    return (
        "usage: pretune VERB [options]\n\n"
        "Pre-train on your own unlabelled data, fine-tune on few labels, and know whether it was worth it.\n\n"
        + "\n".join(rows)
        + "\n\n`pretune VERB --help` lists a verb's options, `pretune list` the objectives, tasks and strategies."
    )


def _listing(names: Sequence[str]) -> str:
    if names and names[0] in ("-h", "--help"):
        return "usage: pretune list [NAME]\n\nWithout NAME all methods; with one, its options."
    if names:
        found = [slot for slot in registry.SLOTS if names[0] in registry.names(slot)]
        if not found:
            every = [n for slot in registry.SLOTS for n in registry.names(slot)]
            raise ConfigError(
                f'There is nothing called "{names[0]}"; see `pretune list`.{did_you_mean(names[0], every)}'
            )
        return "\n\n".join(_describe(slot, names[0]) for slot in found)
    lines = []
    for slot, folder in registry.SLOTS.items():
        lines.append(f"{folder} (--{slot})")
        lines += [f"  {n:<22}{registry.summary(slot, n)}" for n in registry.names(slot)]
    return "\n".join(lines)


def _describe(slot: str, name: str) -> str:
    import inspect

    from docstring_parser import parse

    cls = registry.find(slot, name)
    text = parse(inspect.getdoc(cls) or "")
    notes = {p.arg_name: p.description or "" for p in text.params}
    lines = [f"{slot} {name}: {text.short_description or ''}"]
    lines += ["", text.long_description] if text.long_description else []
    parameters = inspect.signature(cls.__init__).parameters
    for option in cls.option_names():
        lines.append(f"  --{slot}.{option} (default {parameters[option].default!r})")
        lines.append(f"      {' '.join(notes.get(option, '').split())}")
    return "\n".join(lines if cls.option_names() else [*lines, "  no options"])


def _asked_for_help(words: Sequence[str]) -> str | None:
    for i, word in enumerate(words):
        match = re.fullmatch(r"--(\w+)\.help(?:=(.+))?", word)
        if match and match.group(1) in registry.SLOTS:
            return match.group(2) or (words[i + 1] if i + 1 < len(words) else None)
    return None


def _run(name: str, words: list[str]) -> int:
    verb, function = VERBS[name], _function(name)
    words = _normalise(words, verb)
    config = _read_configs(words, name, verb)
    chosen = {slot: _chosen(slot, words, config, function) for slot in verb.slots}
    parser = _parser(name, verb, function, chosen)
    _apply(config, parser)
    if {"-h", "--help"} & set(words):
        print(_readable(parser.format_help(), verb))
        return 0
    show = "--print_config" in words
    values = _parse(parser, [w for w in words if w != "--print_config"], required=not show)
    if show:
        import yaml

        print(
            yaml.safe_dump({"from" if k == "from_" else k: v for k, v in values.items()}, sort_keys=False),
            end="",
        )
        return 0
    return _finish(function(**values))


def _finish(result: Any) -> int:
    """The exit status of a command; the result of a function of the same name is printed as one JSON line."""
    if isinstance(result, int):
        return result
    import json

    from pretune import machine

    shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in result.metrics.items()}
    if machine.is_main():
        print(json.dumps({"run": str(result.path), **shown}))
    return 0


def _function(name: str) -> Callable[..., Any]:
    verbs = importlib.import_module("pretune.run")
    found: Callable[..., Any] = getattr(verbs, f"{name}_command", None) or getattr(verbs, name)
    return found


def _normalise(words: list[str], verb: _Verb) -> list[str]:
    """`pretune predict RUN DATA`, `--from`, `--text_column C` and `--objective mlm` in the parser's own terms."""
    found: list[str] = []
    leading = list(verb.positional)
    waiting = False
    for word in words:
        if not word.startswith("--") and not waiting and leading and word not in ("-h",):
            found.append(f"--{leading.pop(0)}={word}")
            continue
        waiting = word.startswith("--") and "=" not in word and word not in _FLAGS
        key, equals, value = word.partition("=")
        key = re.sub(r"^--(\w+)_column$", r"--columns.\1", key)
        key = "--from_" if key == "--from" else key
        if key.removeprefix("--") in verb.slots:
            key += ".name"
        found.append(key + equals + value if word.startswith("--") else word)
    return [f"{w}=true" if w in _SWITCHES else w for w in found]


_SWITCHES = ("--overwrite", "--scratch")
_FLAGS = ("--help", "--print_config", *_SWITCHES)


def _value_of(option: str, words: Sequence[str]) -> str | None:
    for i, word in enumerate(words):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option and i + 1 < len(words):
            return words[i + 1]
    return None


def _read_configs(words: list[str], name: str, verb: _Verb) -> dict[str, Any]:
    """Takes `--config FILE` out of the words and returns its content, with slots as mappings."""
    file = _value_of("--config", words)
    if file is None:
        return {}
    import yaml

    at = next(i for i, w in enumerate(words) if w.startswith("--config"))
    del words[at : at + (1 if "=" in words[at] else 2)]
    try:
        with open(file, encoding="utf-8") as stream:  # noqa: PTH123 - pathlib is not worth an import here
            content = yaml.safe_load(stream)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read the config file {file}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} must hold options (key: value); found {type(content).__name__}.")
    if content.pop("verb", name) != name:
        raise ConfigError(f"{file} is for another verb than {name}.")
    slots = {s: content[s] for s in verb.slots if s in content}
    content |= {s: {"name": v} if isinstance(v, str) else v for s, v in slots.items()}
    return {"from_" if k == "from" else k: v for k, v in content.items()}


def _chosen(slot: str, words: Sequence[str], config: dict[str, Any], function: Callable[..., Any]) -> str:
    import inspect

    given = _value_of(f"--{slot}.name", words) or (config.get(slot) or {}).get("name")
    return str(given or inspect.signature(function).parameters[slot].default)


def _parser(name: str, verb: _Verb, function: Callable[..., Any], chosen: dict[str, str]) -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"pretune {name}", exit_on_error=False, description=_first_line(function))
    parser.add_argument("--config", type=str, default=None, help="YAML file with any of these options")
    parser.add_argument("--print_config", action="store_true", help="print the resolved options and stop")
    parser.add_function_arguments(function, skip=set(verb.slots), as_group=False, sub_configs=False)
    for slot, word in chosen.items():
        known = ", ".join(registry.names(slot))
        parser.add_argument(f"--{slot}.name", type=str, default=word, help=f"one of: {known}")
        for part in word.split("+"):
            cls = registry.find(slot, part)
            taken = {a.dest.partition(".")[2] for a in parser._actions if a.dest.startswith(f"{slot}.")}
            own = set(cls.option_names())
            parser.add_class_arguments(cls, slot, as_group=False, skip=(taken & own) | _not_own(cls))
    return parser


def _not_own(cls: type[Any]) -> set[str]:
    """Parameters of base classes (torch modules) are not options."""
    return {"args", "kwargs"} - set(cls.option_names())


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").partition("\n")[0]


def _apply(config: dict[str, Any], parser: Any) -> None:
    known = {a.dest for a in parser._actions}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, dict) and key not in known
        flat |= {f"{key}.{k}": v for k, v in value.items()} if nested else {key: value}
    for key in flat:
        if key not in known:
            raise ConfigError(f'There is no option "{key}".{did_you_mean(key, known)}')
    parser.set_defaults(flat)


def _parse(parser: Any, words: list[str], *, required: bool) -> dict[str, Any]:
    from jsonargparse import ArgumentError

    _reject_unknown(parser, words)
    if not required:
        for action in parser._actions:
            action.required = False
        getattr(parser, "required_args", set()).clear()  # of older versions of jsonargparse
    try:
        values = parser.parse_args(words).as_dict()
    except ArgumentError as error:
        raise ConfigError(_one_sentence(str(error), parser)) from error
    return {k: v for k, v in values.items() if k not in ("config", "print_config")}


def _reject_unknown(parser: Any, words: Sequence[str]) -> None:
    known = [o for a in parser._actions for o in a.option_strings]
    free = tuple(f"{o}." for o in ("--columns",) if o in known)
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in known and not option.startswith(free or "\0"):
            shown = option.replace("--from_", "--from").removesuffix(".name")
            close = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            hint = f" Did you mean {close[0].removesuffix('.name')}?" if close else f" See `{parser.prog} --help`."
            raise ConfigError(f"There is no option {shown}.{hint}")


def _one_sentence(message: str, parser: Any) -> str:
    text = " ".join(message.split())
    text = re.sub(r'Parser key "([\w.]+)": ', lambda m: f"--{m.group(1).rstrip('_')}: ", text)
    text = re.sub(r"Expected a <class '(\w+)'>", r"expected a \1", text).replace("Got value: ", "found ")
    text = re.sub(r"the following arguments are required: (.*)", _required, text)
    text = re.sub(r'Option "([\w.]+)" is required.*', r"--\1 is required", text).replace(".name is", " is")
    return f"{text.rstrip('.')}. See `{parser.prog} --help`."


def _required(match: re.Match[str]) -> str:
    names = [f"--{name.rstrip('_')}" for name in match.group(1).split(", ")]
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} required"


def _readable(text: str, verb: _Verb) -> str:
    text = text.replace("--from_ FROM_", "--from FROM")
    for slot in verb.slots:
        text = text.replace(f"--{slot}.name NAME", f"--{slot} NAME")
    usage = text.partition("\n\n")[2]
    return f"$ {verb.example}\n\n{usage}"
