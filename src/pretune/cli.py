"""The command line: verbs and their options, read from the signatures of the functions behind them."""

from __future__ import annotations

__all__ = ["main"]

import errno
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pretune import registry
from pretune.cli_text import one_sentence, readable, reject_unknown
from pretune.errors import ConfigError, PretuneError, did_you_mean
from pretune.imports import imported
from pretune.verbs import VERBS, Verb


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status (2: the input was wrong, 130: interrupted)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _dispatch(words)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from pretune import machine

            machine.leave()
        return status
    except PretuneError as error:
        interrupted = type(error).__name__ == "Interrupted"
        print(error if interrupted else f"pretune: {error}", file=sys.stderr)
        return 130 if interrupted else 2
    except KeyboardInterrupt:
        print("pretune: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # what is still buffered would fail once more when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = f' "{error.filename}"' if error.filename is not None else ""
        print(f"pretune: cannot read or write{where}: {error.strerror}.", file=sys.stderr)
        return 2


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
    if len(names) > 1:
        raise ConfigError(f"`pretune list` takes one name; found {' '.join(names)}.")
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
            found = match.group(2) or (words[i + 1] if i + 1 < len(words) else None)
            if found is None:
                known = ", ".join(registry.names(match.group(1)))
                raise ConfigError(f"{word} takes a name; there are: {known}.")
            return found
    return None


def _run(name: str, words: list[str]) -> int:
    verb, function = VERBS[name], _function(name)
    words = _normalise(words, verb)
    config = _read_configs(words, name, verb)
    chosen = _chosen(verb, words, config, function)
    trained = {slot: _trained(words, config) for slot in verb.of_run if _speaks_of(slot, words, config)}
    parser = _parser(name, verb, function, chosen, trained)
    typed, words = words, [*_as_words(config, parser), *words]
    if {"-h", "--help"} & set(words):
        print(readable(parser.format_help(), verb))
        return 0
    show = "--print_config" in words
    values = _parse(parser, [w for w in words if w != "--print_config"], required=not show)
    for slot, word in chosen.items():
        _own_defaults(values[slot], slot, word, words)
    if values.get("from_") and "modality" in chosen:
        _reject_decided(chosen["modality"], values, typed)
    for slot in trained:
        values[slot] = {o: v for o, v in values[slot].items() if _given(slot, o, words)}
    if show:
        import yaml

        print(
            yaml.safe_dump({"from" if k == "from_" else k: v for k, v in values.items()}, sort_keys=False),
            end="",
        )
        return 0
    return _finish(function(**values))


def _finish(result: Any) -> int:
    """The exit status of a command: a result prints itself, metrics are one JSON line, others have been said."""
    if isinstance(result, int):
        return result
    if hasattr(result, "print"):
        result.print()
    elif hasattr(result, "metrics"):
        _print_metrics(result)
    return 0


def _print_metrics(result: Any) -> None:
    from pretune import machine

    shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in result.metrics.items()}
    if machine.is_main():
        print(json.dumps({"run": str(result.path), **shown}))


def _function(name: str) -> Callable[..., Any]:
    module, word = imported(VERBS[name].module, keep=True), name.replace("-", "_")
    found: Callable[..., Any] = getattr(module, f"{word}_command", None) or getattr(module, word)
    return found


def _normalise(words: list[str], verb: Verb) -> list[str]:
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
    return found


_FLAGS = ("--help", "--print_config")


def _value_of(option: str, words: Sequence[str]) -> str | None:
    """The last value given, as argparse has it."""
    found = None
    for i, word in enumerate(words):
        if word.startswith(f"{option}="):
            found = word.partition("=")[2]
        if word == option and i + 1 < len(words):
            found = words[i + 1]
    return found


def _read_configs(words: list[str], name: str, verb: Verb) -> dict[str, Any]:
    """Takes `--config FILE` out of the words and returns its content, with slots as mappings."""
    file = _value_of("--config", words)
    if file is None:
        if "--config" in words:
            raise ConfigError("--config needs a value: a YAML file of options.")
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
    for fact in ("content", "arms") if name == "study" else ():
        content.pop(fact, None)  # what its recipe.yaml knows of data and weights, beside the options
    for slot in verb.slots:
        value = content.get(slot, {})
        if not isinstance(value, str | dict):
            raise ConfigError(f"{file}: {slot} must be a name, or name and options; found {value!r}.")
        if slot in content:
            content[slot] = {"name": value} if isinstance(value, str) else value
    return {"from_" if k == "from" else k: v for k, v in content.items()}


def _chosen(verb: Verb, words: Sequence[str], config: dict[str, Any], function: Callable[..., Any]) -> dict[str, str]:
    """The method of each slot, by name: given, usual, or (an objective) usual for the modality, which comes first."""
    import inspect

    defaults, found = inspect.signature(function).parameters, dict[str, str]()
    for slot in verb.slots:
        given = _value_of(f"--{slot}.name", words) or (config.get(slot) or {}).get("name") or defaults[slot].default
        found[slot] = str(given or getattr(registry.find("modality", found["modality"]), slot))
    return found


def _speaks_of(slot: str, words: Sequence[str], config: dict[str, Any]) -> bool:
    """Whether options of the run's own method are given."""
    if any(w.partition("=")[0] == f"--{slot}" for w in words):
        raise ConfigError(
            f"The {slot} is that of the run; leave --{slot} out, or give an option of it (--{slot}.NAME)."
        )
    return slot in config or any(w.startswith(f"--{slot}.") for w in words)


def _trained(words: Sequence[str], config: dict[str, Any]) -> str:
    """The task of the run that a command is about."""
    run = _value_of("--run", words) or config.get("run")
    if run is None:
        raise ConfigError("--run must be given, a run directory of `pretune finetune`: its task has the options.")
    from pretune.predicting import task_of

    return task_of(str(run))


def _parser(
    name: str, verb: Verb, function: Callable[..., Any], chosen: dict[str, str], trained: dict[str, str]
) -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"pretune {name}", exit_on_error=False, description=_first_line(function))
    parser.add_argument("--config", type=str, default=None, help="YAML file with any of these options")
    parser.add_argument("--print_config", action="store_true", help="print the resolved options and stop")
    parser.add_function_arguments(function, skip={*verb.slots, *trained}, as_group=False, sub_configs=False)
    for slot, word in chosen.items():
        known = ", ".join(registry.names(slot))
        parser.add_argument(f"--{slot}.name", type=str, default=word, help=f"one of: {known}")
        for part in word.split("+"):
            cls = registry.find(slot, part)
            taken = {a.dest.partition(".")[2] for a in parser._actions if a.dest.startswith(f"{slot}.")}
            own = set(cls.option_names())
            parser.add_class_arguments(cls, slot, as_group=False, skip=(taken & own) | _not_own(cls))
    for slot, word in trained.items():
        cls = registry.find(slot, word)
        parser.add_class_arguments(cls, slot, as_group=False, skip=_not_own(cls))
    return parser


def _own_defaults(values: dict[str, Any], slot: str, word: str, given: Sequence[str]) -> None:
    """Takes out what was not given and several parts of `l2sp+lora` have, so that each keeps its own default."""
    parts = [registry.find(slot, part).option_names() for part in word.split("+")]
    for option in {o for names in parts for o in names if sum(o in other for other in parts) > 1}:
        if not _given(slot, option, given):
            values.pop(option)


def _reject_decided(modality: str, values: dict[str, Any], typed: Sequence[str]) -> None:
    """Refuses what the checkpoint decides, also where the default was typed, which the functions cannot tell."""
    from pretune.pretraining import only_from_scratch

    cls: Any = registry.find("modality", modality)
    names = [n for n in cls.learnt if _given("modality", n, typed)]
    only_from_scratch(values["from_"], **{f"modality.{n}": values["modality"][n] for n in names})


def _given(slot: str, option: str, words: Sequence[str]) -> bool:
    return any(w.partition("=")[0] == f"--{slot}.{option}" for w in words)


def _not_own(cls: type[Any]) -> set[str]:
    """Parameters of base classes (torch modules) are not options."""
    return {"args", "kwargs"} - set(cls.option_names())


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").partition("\n")[0]


def _as_words(config: dict[str, Any], parser: Any) -> list[str]:
    """The options of a config file as words before those of the command line, so that they are checked alike."""
    known = {a.dest for a in parser._actions}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, dict) and key not in known
        flat |= {f"{key}.{k}": v for k, v in value.items()} if nested else {key: value}
    for key in flat:
        if key not in known:
            raise ConfigError(f'There is no option "{key}".{did_you_mean(key, known)}')
    return [f"--{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in flat.items() if v is not None]


def _switched(words: Sequence[str], parser: Any) -> list[str]:
    """`--scratch` alone is `--scratch=true`, and so is any other option that is true or false."""
    switches = {o for a in parser._actions if getattr(a, "_typehint", None) is bool for o in a.option_strings}
    following = [*words, "--"][1:]
    alone = [w in switches and after.lower() not in _BOOLEANS for w, after in zip(words, following, strict=True)]
    return [f"{word}=true" if lone else word for word, lone in zip(words, alone, strict=True)]


_BOOLEANS = ("true", "false", "yes", "no", "0", "1")


def _parse(parser: Any, words: list[str], *, required: bool) -> dict[str, Any]:
    from jsonargparse import ArgumentError

    words = _switched(words, parser)
    reject_unknown(parser, words)
    if not required:
        for action in parser._actions:
            action.required = False
    try:
        values = parser.parse_args(words).as_dict()
    except ArgumentError as error:
        raise ConfigError(one_sentence(str(error), parser, words)) from error
    # these may be anything in Python; here "2024" is a file, not a number
    values |= {k: raw for k in _SOURCES if k in values and (raw := _value_of(f"--{k}", words)) is not None}
    return {k: v for k, v in values.items() if k not in ("config", "print_config")}


_SOURCES = ("data", "labelled", "pool", "test", "valid")
