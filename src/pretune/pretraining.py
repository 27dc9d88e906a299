"""`pretrain`: what data looks like, corpus, encoder, objective, fit, export."""

from __future__ import annotations

__all__ = [
    "SIZE",
    "RunResult",
    "cache_folder",
    "check_model",
    "export",
    "fingerprints",
    "keep",
    "only_from_scratch",
    "prepare",
    "pretrain",
    "recipe_of",
    "refuse_changed",
]

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, set_seed

from pretune import cooccurrence, encoder, machine, registry
from pretune import data as data_io
from pretune.checkpoint import RunDirectory
from pretune.columns import check_roles
from pretune.errors import ConfigError, DataError, did_you_mean
from pretune.held_out import HeldOut, check_probe, read_probe
from pretune.limits import check_numbers
from pretune.lineage import lineage, model_card, warn_if_unlearnt
from pretune.method import Method
from pretune.modalities.base import Corpus, Modality
from pretune.objectives.base import Floor, Objective, require_kind
from pretune.progress import say
from pretune.train import FitResult, check_options, fit
from pretune.unread_columns import say_unread

SIZE = "mini"
INITS = ("cooccurrence", "random")


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        path: The run directory; ``path / "model"`` loads with transformers.
        metrics: Held-out metrics: validation, and ``test_...`` where a test set was given.
        fitted: Steps, tokens, seconds, forecast.
    """

    path: Path
    metrics: dict[str, Any] = field(default_factory=dict)
    fitted: FitResult | None = None


def pretrain(
    data: Any,
    *,
    out: str,
    objective: str | dict[str, Any] | Objective | None = None,
    modality: str | dict[str, Any] | Modality = "text",
    from_: str | None = None,
    size: str | None = None,
    family: str | None = None,
    init: str | None = None,
    budget: str = "20m",
    valid: Any = None,
    probe: Any = None,
    columns: Mapping[str, str] | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
    cache: str | None = None,
    **loop: Any,
) -> RunResult:
    """Pre-trains an encoder on unlabelled data.

    Args:
        data: File, folder, Hub name, or (in Python) a list, DataFrame or Dataset.
        out: The run directory to write.
        objective: What to learn from; `pretune list` names them. Not given: mlm, for images contrastive, for sound
            masked_audio.
        modality: What the data is; its options shape the tokenizer and the length of examples.
        from_: A run, model directory or Hub name whose encoder to continue from (domain-adaptive pre-training).
        size: Size preset for training from scratch (tiny, mini, small, medium, base); not given: mini.
        family: Architecture for training from scratch (modernbert, bert; vit, convnext, resnet; wav2vec2-bert,
            wav2vec2, hubert); not given: modernbert (bert for the objective of that name), resnet (vit for mae,
            convnext for gan) or wav2vec2-bert.
        init: Word embeddings from scratch: ``cooccurrence`` (factorised counts of the corpus, which pre-training leaves
            as they are; this if not given) or ``random`` (learnt with the rest).
        budget: When to stop: 20m, 2h, 2e8tok, 1e6images, 3epochs, 5000steps.
        valid: Unlabelled held-out data; not given: 1 % of the documents of `data`.
        probe: Labelled data whose labels are only used to say, at each validation, how often an example's nearest
            neighbours have its label (images, sound).
        columns: Column of each role, where the usual names do not fit, e.g. ``{"text": "review"}``.
        batch_size: Examples in an optimiser step; not given: 16, for images 128.
        lr: Peak learning rate; not given: 0.4 / width from scratch for text and `mae`, 0.1 to 0.2 / width for other
            objectives on images and sound; a tenth of that with `from_`.
        seed: Of the weights, the data order and the noise.
        overwrite: Replace an earlier run in `out`; an interrupted one with the same options goes on all the same.
        cache: Folder for processed data; not given: $PRETUNE_CACHE or ~/.cache/pretune.
        loop: What `pretune.train.fit` takes: schedule, ema, precision, checkpoint_every ...

    Raises:
        PretuneError: In one sentence, what is wrong with the data, an option, the checkpoint or the run directory.
    """
    source: Modality = registry.build("modality", modality)
    method: Objective = registry.build("objective", source.objective if objective is None else objective)
    require_kind(method, source, registry.classes("objective"))
    method.check(source)
    check_options(budget, method.batch_size if batch_size is None else batch_size, loop)
    check_numbers({"lr": lr, "seed": seed})
    _check_start(source, from_, size, family, init, loop)
    if probe is not None:
        check_probe(source)
    refuse_changed(source, source.labelled, "in pre-training")
    recipe = recipe_of(locals(), "pretrain", data=data, objective=method, modality=source, loop=loop)
    check_model(source, from_, size, family)
    check_roles(columns, list(source.inputs)[:1])
    source.columns = dict(columns or {})
    run, contents = RunDirectory(out), fingerprints(train=data, valid=valid)
    say_unread(data, dict(list(source.inputs.items())[:1]), source.columns)
    with machine.main_first():
        going_on = run.check(recipe, data=contents, overwrite=overwrite)
        prepare(source, data, from_, run.path / "modality" if going_on else None)
        set_seed(seed)
        report = _build_objective(
            method, from_ or source.config(size or SIZE, family or method.family or source.family), source
        )
        corpus, held_out = _corpora(source, data, valid, cache=cache_folder(cache), units=method.units)
        labelled = None if probe is None else read_probe(probe, source, dict(columns or {}))
        examples = method.examples(corpus, seed=seed)
        _require_others(method, num=len(examples), batch=batch_size)
        # only now is anything written: what is wrong with the data or the model was found before
        state = run.open(recipe, data=contents, overwrite=overwrite)
        if from_ is None:
            keep(source, run.path / "modality")
    if from_ is None and init != "random" and source.words:
        cooccurrence.initialise(method.export(), corpus, seed=seed)
    rate = lr or method.default_lr(scratch=from_ is None)
    batch = batch_size or method.batch_size
    method.learn(corpus, seed=seed)
    floor = method.floor(held_out)
    size_of = f"{len(corpus):,} {method.counted} in {len(examples):,} examples"
    say(f"corpus: {size_of}; {report}; batch {batch}; lr {rate:.3g}")
    # the command has no option for what is named here
    fitted = fit(
        method, examples, run=run, budget=budget, batch_size=batch, lr=rate, seed=seed, state=state, strategies=(),
        lengths=method.lengths(examples), primary=None, min_steps=1, floor=floor,
        validate=HeldOut(method, held_out, seed, labelled), **loop,
    )  # fmt: skip
    facts = lineage(
        recipe, fitted, verb="pretrain", data=contents, parent=from_, transfer=str(report), lr=rate, batch_size=batch,
        **_of_floor(floor),
    )  # fmt: skip
    _draw(run, method, held_out)
    export(run, method, source, facts)
    say(f"wrote {run.model}")
    warn_if_unlearnt(run.path)
    return RunResult(run.path, fitted.best, fitted)


def _require_others(method: Objective, *, num: int, batch: int | None) -> None:
    """Finds fewer examples, in all or in a batch, than an objective compares."""
    least = method.least
    if batch is not None and batch < least:
        raise ConfigError(f"{method.name} tells the examples of a batch apart: batch_size {batch} is below {least}.")
    if num < least:
        raise DataError(f"{method.name} tells examples apart, and the data has {num}: give {least} or more.")


def _corpora(source: Modality, data: Any, valid: Any, *, cache: Path, units: str) -> tuple[Corpus, Corpus]:
    """What is learnt from, and what is held out of it or given for that."""
    parts = ((data, "train"), (data, "valid")) if valid is None else ((data, "all"), (valid, "all"))
    learnt, held = (source.corpus(given, cache=cache, split=split, units=units) for given, split in parts)
    return learnt, held


def _of_floor(floor: Floor | None) -> dict[str, Any]:
    """The loss of an answer that knows nothing, as `lineage.json` has it."""
    if floor is None:
        return dict.fromkeys(("floor", "floor_of", "floor_what"))
    return {"floor": floor.value, "floor_of": floor.of, "floor_what": floor.what}


def _check_start(
    source: Modality, from_: str | None, size: str | None, family: str | None, init: str | None, loop: Any
) -> None:
    only_from_scratch(from_, size=size, family=family, init=init)
    if init not in (None, *INITS):
        raise ConfigError(f'There is no init "{init}"; there are: {", ".join(INITS)}.{did_you_mean(init, INITS)}')
    if init is not None and not source.words:
        raise ConfigError(f"--init {init} has no effect on {source.name}: it makes word embeddings; leave it out.")
    if loop.get("patience"):
        raise ConfigError("patience has no effect in pre-training, which always spends its budget; leave it out.")


def check_model(source: Modality, from_: str | None, size: str | None, family: str | None) -> None:
    """Finds out, before data is read, whether there is such a checkpoint, or such a preset.

    Raises:
        ModelError: `from_` is no model.
        ConfigError: No such size or family, or options of the modality that the checkpoint decides.
    """
    if from_ is not None:
        encoder.read_config(from_)
        changed = {n: getattr(source, n) for n in source.learnt if getattr(source, n) != source.default(n)}
        only_from_scratch(from_, **{f"modality.{name}": value for name, value in changed.items()})
    for word, known, what in ((size, source.sizes, "size"), (family, source.families, "family")):
        if word is not None and known and word not in known:
            raise ConfigError(f'There is no {what} "{word}"; there are: {", ".join(known)}.{did_you_mean(word, known)}')


def refuse_changed(source: Modality, names: Sequence[str], where: str) -> None:
    """Rejects options of a modality that mean nothing here.

    Raises:
        ConfigError: One of them is not as it was.
    """
    for name in names:
        if getattr(source, name) != source.default(name):
            raise ConfigError(f"modality.{name} has no effect {where}; leave it out.")


def only_from_scratch(from_: str | None, **options: Any) -> None:
    """Rejects options that only shape a new model when there is a checkpoint.

    Raises:
        ConfigError: `from_` and one of `options` are given.
    """
    for name, value in options.items():
        if from_ is not None and value is not None:
            raise ConfigError(
                f"--{name} {value} has no effect with --from {from_}: the checkpoint decides; remove one."
            )


def cache_folder(given: str | None) -> Path:
    """Where processed data goes: the folder given, $PRETUNE_CACHE, or ~/.cache/pretune."""
    return Path(given or os.environ.get("PRETUNE_CACHE", "~/.cache/pretune")).expanduser()


def recipe_of(arguments: dict[str, Any], verb: str, **special: Any) -> dict[str, Any]:
    """Every option, resolved and YAML-able."""
    loop = special.pop("loop")
    plain = {k: v for k, v in arguments.items() if k not in special and k not in ("loop", "overwrite")}
    plain = {k: v for k, v in plain.items() if not isinstance(v, (Method, type))}
    named = {k: v.spec() if isinstance(v, Method) else _describe(v) for k, v in special.items()}
    plain = {"from" if k == "from_" else k: _describe(v) for k, v in plain.items()}
    return {"verb": verb, **named, **plain, **loop}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _describe(value: Any) -> Any:
    """A data source as it can be written in a recipe: itself if it is a path, else its fingerprint."""
    if _is_plain(value):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping) and all(_is_plain(v) or isinstance(v, list) for v in value.values()):
        return dict(value)
    return f"in memory: {data_io.fingerprint(value)}"


def prepare(source: Modality, data: Any, from_: str | None, kept: Path | None) -> None:
    """Takes the tokenizer or image processor of a checkpoint, or of the interrupted run (`kept`), or learns one."""
    if from_ is not None:
        source.load(encoder.model_folder(from_))
    elif kept is not None and kept.is_dir():
        source.load(str(kept))
    else:
        source.learn(data)


def keep(source: Modality, folder: Path) -> None:
    """Saves what was learnt, so that an interrupted run need not learn it again."""
    if not folder.is_dir():
        temporary = folder.with_name("modality.tmp")
        source.save(temporary)
        temporary.rename(folder)


def _build_objective(method: Objective, weights: encoder.Source, source: Modality) -> encoder.TransferReport:
    config = weights if isinstance(weights, PretrainedConfig) else encoder.read_config(weights)
    auto_class = method.auto_class(config.model_type)
    model, report = encoder.make(auto_class, weights)
    machine.fast_attention(model)
    method.setup(model, source)
    machine.fast_convolutions(method)  # its heads and decoders, too
    method.counted = source.counted
    return report


def _draw(run: RunDirectory, method: Objective, corpus: Corpus) -> None:
    """Writes the objective's pictures."""
    with torch.no_grad():
        pictures = method.pictures(corpus)
    for name, picture in pictures.items():
        (run.path / "pictures").mkdir(exist_ok=True)
        picture.save(run.path / "pictures" / f"{name}.png")
        say(f"wrote {run.path / 'pictures' / name}.png")


def fingerprints(**sources: Any) -> dict[str, str]:
    """Content hash of each source that is given.

    Raises:
        DataError: Two of them hold the same, so that a model would be measured on what it has seen.
    """
    found = {role: data_io.fingerprint(s) for role, s in sources.items() if s is not None}
    by_content: dict[str, str] = {}
    for role, content in found.items():
        if (other := by_content.setdefault(content, role)) != role:
            first, second = ("data" if r == "train" else r for r in (other, role))
            raise DataError(f"--{second} holds the same as --{first}; give other records, or leave it out.")
    return found


def export(run: RunDirectory, method: Objective, source: Modality, facts: dict[str, Any]) -> None:
    """Writes the model directory and finishes the run."""
    model = method.export()
    auto = type(model).__name__

    def write(folder: Path) -> None:
        with encoder.quiet():
            model.save_pretrained(folder)
        source.save(folder)
        method.save(folder)
        card = model_card(facts, folder=run.model, auto=auto, processor=source.loader, title=run.path.name)
        (folder / "README.md").write_text(card, encoding="utf-8")

    run.finish(write, facts)
