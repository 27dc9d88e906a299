"""The verbs as functions, and what the command line adds to them: printing and files."""

from __future__ import annotations

__all__ = ["check", "evaluate", "evaluate_command", "explain", "finetune", "load", "predict", "pretrain"]

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from pretune.checkpoint import replacing, write_text
from pretune.checks import check
from pretune.errors import ConfigError, DataError, similar
from pretune.evaluating import evaluate, evaluate_command
from pretune.explainers.base import Explainer
from pretune.explaining import Explanation, explain_records, write_page
from pretune.finetuning import finetune
from pretune.formats import FORMATS
from pretune.heat_map import write_picture
from pretune.modalities.base import truncated
from pretune.predicting import Predictor, load
from pretune.pretraining import pretrain
from pretune.progress import say
from pretune.sources import STDIN, exists
from pretune.unread_columns import say_unread


def predict(
    run: str,
    data: Any,
    *,
    columns: Mapping[str, str] | None = None,
    batch_size: int | None = None,
    precision: str | None = None,
    files: str | None = None,
    abstain: float | None = None,
    calibrated: bool = False,
    ood: bool = False,
    task: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Predicts every record, in input order; a bad row gives an ``error`` in its place.

    Args:
        run: A run directory of `finetune`.
        data: File, folder, Hub name, ``-`` for standard input, list, DataFrame or Dataset.
        columns: Column of each role, where the usual names do not fit, e.g. ``{"text": "review"}``.
        batch_size: Most records in one run of the model; not given: 64, and up to 256 pictures of under 64 pixels.
        precision: ``fp32`` or ``bf16`` (same labels; numbers, boxes, masks and transcripts are as exact as it is); not
            given: bf16 where the hardware is faster in it and the task gives labels.
        files: A folder for what the task can also write: drawn boxes and COCO results, masks and overlays.
        abstain: Coverage, such as 0.95: adds the ``set`` (of numbers ``low`` and ``high``) that holds the true answer
            so often, and gives none where it is not one answer. Of a run that `calibrate` has seen; in float32.
        calibrated: Give probabilities the temperature that `calibrate` found; in float32.
        ood: Also say how far each record is from the pre-training data, and whether that is too far; needs the index
            of `index`.
        task: Options of the run's task that prediction reads, such as ``{"decoder": "beam"}`` of ctc.
    """
    predictor = _loaded(run, precision, abstain, calibrated, task)
    return predictor.stream(
        data, columns=columns, batch_size=batch_size, files=files, abstain=abstain, calibrated=calibrated, ood=ood
    )


def _loaded(
    run: str, precision: str | None, abstain: float | None, calibrated: bool, task: Mapping[str, Any] | None
) -> Predictor:
    if precision == "bf16" and (abstain is not None or calibrated):
        raise ConfigError("precision bf16 has no effect with abstain or calibrated, which need float32; leave it out.")
    return load(run, precision=precision, task=task)


def explain(
    run: str,
    data: Any,
    *,
    explainer: str | dict[str, Any] | Explainer = "integrated_gradients",
    of: str | None = None,
    columns: Mapping[str, str] | None = None,
    num_random: int = 20,
    sanity: int = 2,
    seed: int = 0,
    nearest: int = 0,
) -> list[Explanation]:
    """Shows which words, pixels, or seconds and frequencies, decided, with faithfulness beside random explanations.

    Args:
        run: A run directory of `finetune`.
        data: A list of texts, pictures, recordings or records, or a file of them; on the command line also a text.
        explainer: How to attribute; `pretune list` names them.
        of: The class, or the number of the entity, to explain instead of the prediction.
        columns: Column of each role, where the usual names do not fit, e.g. ``{"text": "review"}``.
        num_random: Random orders of the same pieces that the explanation is compared with; 0 leaves that out, and
            with it the curves.
        sanity: Models with random weights whose explanations it is compared with; 0 leaves that out.
        seed: Of the random orders and weights.
        nearest: How many of the nearest labelled, and of the nearest pre-training examples, to add; needs the index of
            `index`.
    """
    return explain_records(
        load(run),
        data,
        explainer=explainer,
        of=of,
        columns=columns,
        num_random=num_random,
        sanity=sanity,
        seed=seed,
        nearest=nearest,
    )


# -- the same, as commands ---------------------------------------------------------------------------------------------


def predict_command(
    run: str,
    data: str,
    *,
    columns: Mapping[str, str] | None = None,
    batch_size: int | None = None,
    precision: str | None = None,
    files: str | None = None,
    abstain: float | None = None,
    calibrated: bool = False,
    ood: bool = False,
    task: Mapping[str, Any] | None = None,
    out: str | None = None,
) -> int:
    """Predicts every record, one JSON line each, in input order.

    Args:
        run: A run directory of `pretune finetune`.
        data: File, folder, Hub name, or - for standard input.
        columns: Column of each role, where the usual names do not fit.
        batch_size: Most records in one run of the model; not given: 64, and up to 256 pictures of under 64 pixels.
        precision: fp32 or bf16 (same labels; numbers, boxes, masks and transcripts are as exact as it is); not given:
            bf16 where the hardware is faster in it and the task gives labels.
        files: A folder for what the task can also write: drawn boxes and COCO results, masks and overlays.
        abstain: Coverage, such as 0.95: adds the set of answers (of numbers low and high) that holds the true one so
            often, and gives none where it is not one answer; needs `pretune calibrate`.
        calibrated: Give probabilities the temperature that `pretune calibrate` found.
        ood: Also say how far each record is from the pre-training data (`pretune index` must have been run).
        task: An option of the run's task that prediction reads, such as --task.decoder beam of ctc.
        out: File to write instead of standard output.
    """
    failed = total = silent = 0
    predictor = _loaded(run, precision, abstain, calibrated, task)
    options: dict[str, Any] = {"columns": columns, "batch_size": batch_size, "files": files}
    say_unread(predictor.task.source(data), predictor.task.read_roles(predictor.modality), columns)
    with _writing(out, data) as stream:
        for row in predictor.stream(data, **options, abstain=abstain, calibrated=calibrated, ood=ood):
            total, failed = total + 1, failed + ("error" in row)
            silent += bool(row.get("abstained"))
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    if predictor.task.truncates and predictor.modality.num_truncated:
        say(truncated(predictor.modality, total))
    if silent:
        say(f'{silent:,} of {total:,} records have no single answer at level {abstain:g}; their lines say "abstained".')
    if failed:
        say(f'{failed:,} of {total:,} rows could not be used; their lines have "error".')
    return 0


def _writing(out: str | None, data: str) -> AbstractContextManager[TextIO]:
    """Standard output, or a file that appears only when it is complete."""
    if out is None:
        return nullcontext(sys.stdout)
    if not Path(out).name or Path(out).is_dir():
        raise ConfigError(f'--out is the file to write; found the folder "{out}".')
    if Path(out).resolve() == Path(data).resolve():
        raise ConfigError(f'--out is "{out}", which is what is read; name another file.')
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    return replacing(out)


def explain_command(
    run: str,
    data: str,
    *,
    explainer: str | dict[str, Any] | Explainer = "integrated_gradients",
    of: str | None = None,
    columns: Mapping[str, str] | None = None,
    num_random: int = 20,
    sanity: int = 2,
    seed: int = 0,
    nearest: int = 0,
    out: str | None = None,
) -> int:
    """Shows which words, pixels, or seconds and frequencies, decided, with faithfulness beside random explanations.

    Args:
        run: A run directory of `pretune finetune`.
        data: A text, a picture, a recording, a file or folder of records, or - for standard input.
        explainer: How to attribute.
        of: The class, or the number of the entity, to explain instead of the prediction.
        columns: Column of each role, where the usual names do not fit.
        num_random: Random orders of the same pieces that the explanation is compared with; 0 leaves that out, and
            with it the curves.
        sanity: Models with random weights whose explanations it is compared with; 0 leaves that out.
        seed: Of the random orders and weights.
        nearest: How many of the nearest labelled and pre-training examples to add (`pretune index` must have been run).
        out: A .html page, a .json file or (of pictures, sound and sequences) a .png to write as well.
    """
    if out is not None and Path(out).suffix not in (".html", ".json", ".png"):
        raise ConfigError(f'--out ends with .html, .json or .png; found "{out}".')
    records = _text_or_file(data)
    found = explain(
        run,
        records,
        explainer=explainer,
        of=of,
        columns=columns,
        num_random=num_random,
        sanity=sanity,
        seed=seed,
        nearest=nearest,
    )
    _console().print(*(e.render() for e in found))
    if out is not None:
        _write_explanations(found, Path(out))
    return 0


def _write_explanations(found: list[Explanation], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".json":
        write_text(file, json.dumps([e.to_dict() for e in found], indent=2) + "\n")
    elif file.suffix == ".html":
        write_page(found, file)
    else:
        pictures = [e for e in found if e.drawn]
        if not pictures:
            raise ConfigError(
                f'Only explanations of pictures, sound and sequences can be a .png, as "{file}"; use .html or .json.'
            )
        write_picture(pictures, file)
    say(f"wrote {file}")


def _text_or_file(data: str) -> Any:
    if not data.strip():
        raise ConfigError("There is no text to explain: it is empty; give a text, or a file of records.")
    if data == STDIN or exists(Path(data)):
        return data
    if not any(c.isspace() for c in data) and data.lower().removesuffix(".gz").endswith(tuple(FORMATS)):
        raise DataError(f'There is no file "{data}"; check the path, or give a text.{similar(Path(data))}')
    return [data]


def _console() -> Any:
    from rich.console import Console

    return Console()


def check_command(
    data: str,
    *,
    task: str | None = None,
    test: str | None = None,
    columns: Mapping[str, str] | None = None,
    boundary: str = "line",
    modality: str = "text",
) -> int:
    """Looks for problems in data before any compute is spent.

    Args:
        data: File, folder or Hub name.
        task: What the labels are for (classification, tagging, regression); not given: unlabelled data.
        test: Labelled test data, to look for overlap with `data`.
        columns: Column of each role, where the usual names do not fit.
        boundary: For unlabelled .txt files: a document is a line, lines up to a blank one, or the file.
        modality: What the data is: text or image.
    """
    report = check(data, task=task, test=test, columns=columns or {}, boundary=boundary, modality=modality)
    report.render()
    return report.status


def demo_command(
    name: str = "text", *, out: str = "runs/demo", budget: str | None = None, seed: int = 0, seeds: int = 3
) -> int:
    """Pre-trains, fine-tunes, predicts and explains on data that is already on this machine.

    Args:
        name: Which demo: text, digits or speech (synthetic: it needs espeak-ng).
        out: Folder for its runs and the report.
        budget: Of the pre-training; not given: 60s, for digits 20s, for speech 40s.
        seed: First seed.
        seeds: Paired repetitions of the comparison.
    """
    demos = ("text", "digits", "speech")
    if name not in demos:
        raise ConfigError(f'There is no demo "{name}"; there are: {", ".join(demos)}.')
    demo = importlib.import_module(f"pretune.demo_{name}")
    demo.run(out=Path(out) / name, seed=seed, seeds=seeds, **({} if budget is None else {"budget": budget}))
    return 0
