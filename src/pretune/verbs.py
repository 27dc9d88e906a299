"""What `pretune` can be told to do; imports nothing heavy, since `pretune --help` reads it."""

from __future__ import annotations

__all__ = ["VERBS", "Verb"]

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """A verb of the command line; its options are the arguments of ``VERB_command``, or of ``VERB``, in `module`.

    Attributes:
        does: What it is for, in a line of the help.
        example: A command.
        slots: Arguments that name a method of the registry, whose options become ``--SLOT.OPTION``.
        positional: Arguments that may be given without their name, in this order.
        of_run: Slots whose method is that of the run; those of its options that the verb reads are ``--SLOT.OPTION``.
        module: Where its function is; ``-`` in a verb is ``_`` in its function.
    """

    does: str
    example: str
    slots: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    of_run: tuple[str, ...] = ()
    module: str = "pretune.run"


VERBS = {
    "pretrain": Verb(
        "learn from unlabelled data",
        "pretune pretrain --data reviews/ --objective bert --out runs/pre --budget 20m",
        ("modality", "objective"),
    ),
    "finetune": Verb(
        "adapt a pre-trained model to few labels",
        "pretune finetune --from runs/pre --data labels.csv --task classification --strategy l2sp --out runs/ft",
        ("modality", "task", "strategy"),
    ),
    "study": Verb(
        "was the pre-training worth it, and how to fine-tune it: paired arms, intervals, a verdict",
        "pretune study --from runs/pre --data labels.csv --labels 16,64,256 --out runs/study",
        ("modality", "task"),
        module="pretune.studying",
    ),
    "evaluate": Verb(
        "metrics with intervals, confusion matrix, calibration",
        "pretune evaluate runs/ft test.csv",
        positional=("run", "data"),
        of_run=("task",),
    ),
    "calibrate": Verb(
        "how sure a run may be: temperature, and sets of answers with stated coverage",
        "pretune calibrate runs/ft held-out.csv",
        positional=("run", "data"),
        module="pretune.calibrating",
    ),
    "predict": Verb(
        "one JSON line a record, from a file or standard input",
        "pretune predict runs/ft new.csv > predictions.jsonl",
        positional=("run", "data"),
        of_run=("task",),
    ),
    "explain": Verb(
        "what a prediction rests on, and whether that explanation can be trusted",
        'pretune explain runs/ft "a fine film" --out why.html',
        ("explainer",),
        ("run", "data"),
    ),
    "index": Verb(
        "remember what a run learnt from, to find what a prediction is near to, or unlike",
        "pretune index runs/ft --pool reviews/",
        positional=("run",),
        module="pretune.indexing",
    ),
    "label-next": Verb(
        "which unlabelled records are worth a label next",
        "pretune label-next runs/ft unlabelled/ --num 50 --out next.csv",
        positional=("run", "data"),
        module="pretune.labelling",
    ),
    "inspect": Verb(
        "what pre-training learned and what fine-tuning moved, layer by layer",
        "pretune inspect runs/ft --against runs/l2sp",
        positional=("run",),
        module="pretune.inspecting",
    ),
    "report": Verb(
        "one page about a run or a study, for people who were not there",
        "pretune report runs/ft --test test.csv",
        positional=("run",),
        module="pretune.reporting.page",
    ),
    "explain-all": Verb(
        "what speaks for and against each class over many records, and how far to trust that",
        "pretune explain-all runs/ft test.csv --out overview.html",
        ("explainer",),
        ("run", "data"),
        module="pretune.explaining_all",
    ),
    "check": Verb(
        "look for problems in data before any compute is spent",
        "pretune check labels.csv --task classification --test test.csv",
        positional=("data",),
    ),
    "suspects": Verb(
        "labels that are probably wrong, by cross-validation",
        "pretune suspects labels.csv --from runs/pre --out suspects.csv",
        ("modality", "task"),
        ("data",),
        module="pretune.label_errors",
    ),
    "demo": Verb("the whole way on data that is already on this machine", "pretune demo text", positional=("name",)),
    "list": Verb("what there is, and its options", "pretune list mlm", positional=("name",)),
}
