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
        module: Where its function is; ``-`` in a verb is ``_`` in its function.
    """

    does: str
    example: str
    slots: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
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
    "evaluate": Verb(
        "metrics with intervals, confusion matrix, calibration",
        "pretune evaluate runs/ft test.csv",
        positional=("run", "data"),
    ),
    "predict": Verb(
        "one JSON line a record, from a file or standard input",
        "pretune predict runs/ft new.csv > predictions.jsonl",
        positional=("run", "data"),
    ),
    "explain": Verb(
        "what a prediction rests on, and whether that explanation can be trusted",
        'pretune explain runs/ft "a fine film" --out why.html',
        ("explainer",),
        ("run", "data"),
    ),
    "explain-all": Verb(
        "what speaks for and against each class over many records, and how far to trust that",
        "pretune explain-all runs/ft test.csv --out overview.html",
        ("explainer",),
        ("run", "data"),
        "pretune.explaining_all",
    ),
    "check": Verb(
        "look for problems in data before any compute is spent",
        "pretune check labels.csv --task classification --test test.csv",
        positional=("data",),
    ),
    "demo": Verb("the whole way on data that is already on this machine", "pretune demo text", positional=("name",)),
    "list": Verb("what there is, and its options", "pretune list mlm", positional=("name",)),
}
