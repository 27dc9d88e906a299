"""Every command, block of Python, link and recipe of the documentation, held against the code."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import PAGES, RECIPES, ROOT, Block, anchors, blocks, commands, links

import pretune
from pretune import cli, registry
from pretune.errors import ConfigError
from pretune.train import check_options, fit

_PARAMETERS = list(inspect.signature(fit).parameters)
LOOP = _PARAMETERS[_PARAMETERS.index("num_micro_batches") :]


def resolve(words: list[str]) -> dict[str, Any]:
    """Parses a command as `pretune` would, and builds its methods; computes nothing."""
    name, rest = words[0], words[1:]
    if name == "list" or (name in cli.VERBS and cli._asked_for_help(words)):
        asked = cli._asked_for_help(words)
        assert cli._listing([asked] if asked else rest)
        return {}
    if name not in cli.VERBS:
        assert words in (["--help"], ["--version"]), f"no such verb: {name}"
        return {}
    verb, function = cli.VERBS[name], cli._function(name)
    rest = cli._normalise(rest, verb)
    written = "--config" in rest and not (ROOT / rest[rest.index("--config") + 1]).exists()
    if written:  # a recipe that a run of the reader has written: it gives what is required
        rest = [*rest, "--print_config"]
        del rest[rest.index("--config") : rest.index("--config") + 2]
    config = cli._read_configs(rest, name, verb)
    chosen = cli._chosen(verb, rest, config, function)
    parser = cli._parser(name, verb, function, chosen, {})
    rest = [*cli._as_words(config, parser), *rest]
    stops = {"--help", "--print_config"} & set(rest)
    values = cli._parse(parser, [w for w in rest if w not in stops], required=not stops)
    for slot in verb.slots:
        registry.build_all(slot, values[slot])
    if "schedule" in values:
        batch_size = values["batch_size"] or registry.build("objective", values["objective"]).batch_size
        check_options(values["budget"], batch_size, {k: v for k, v in values.items() if k in LOOP})
    return values


COMMANDS = [(str(b), words) for b in blocks("sh") for words in commands(b.text)]


@pytest.mark.parametrize(("place", "words"), COMMANDS, ids=[f"{p}-{w[0]}" for p, w in COMMANDS])
def test_commands_are_understood(place: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    resolve(words)


def test_a_wrong_command_would_be_found() -> None:
    with pytest.raises(ConfigError, match="no option --bugdet"):
        resolve(["pretrain", "--data", "x", "--out", "y", "--bugdet", "1m"])
    with pytest.raises(ConfigError, match="--out must be given"):
        resolve(["pretrain", "--data", "x"])
    with pytest.raises(ConfigError, match='no schedule "liner"'):
        resolve(["pretrain", "--data", "x", "--out", "y", "--schedule", "liner"])


PYTHON = blocks("python")


@pytest.mark.parametrize("block", PYTHON, ids=map(str, PYTHON))
def test_python_compiles_and_names_real_arguments(block: Block) -> None:
    tree = ast.parse(block.text)
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "pretune":
            signature = inspect.signature(getattr(pretune, call.func.attr))
            given = {k.arg: None for k in call.keywords if k.arg not in LOOP}
            signature.bind(*call.args, **given)


SELF_CONTAINED = [b for b in PYTHON if b.mark == "self-contained"]


@pytest.mark.parametrize("block", SELF_CONTAINED, ids=map(str, SELF_CONTAINED))
def test_self_contained_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_resolve(page: Path) -> None:
    for link in links(page):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.name)
def test_recipes_are_accepted(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    own = recipe.relative_to(ROOT).as_posix()
    assert cli.main([content["verb"], "--config", own, "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    del content["verb"]
    for key, value in content.items():
        own_options = {"name": value} if key in registry.SLOTS and isinstance(value, str) else value
        taken = {k: printed[key][k] for k in own_options} if isinstance(own_options, dict) else printed[key]
        assert taken == own_options, key
    header = "\n".join(
        line[1:].strip() for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")
    )
    given = [words for words in commands(header) if own in words]
    assert given, f"{own} does not say its command"
    for words in given:
        assert resolve(words)
