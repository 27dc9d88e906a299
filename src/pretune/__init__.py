"""Pre-train on your own unlabelled data, fine-tune on few labels, and know whether it was worth it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pretune.errors import CollapseError, ConfigError, DataError, ModelError, NumericsError, PretuneError, RunError

if TYPE_CHECKING:
    from pretune.calibrating import calibrate
    from pretune.explaining_all import explain_all
    from pretune.indexing import index
    from pretune.inspecting import inspect
    from pretune.label_errors import suspects
    from pretune.labelling import label_next
    from pretune.reporting.page import report
    from pretune.run import check, evaluate, explain, finetune, load, predict, pretrain
    from pretune.studying import study

__version__ = "0.1.0"

__all__ = [
    "CollapseError",
    "ConfigError",
    "DataError",
    "ModelError",
    "NumericsError",
    "PretuneError",
    "RunError",
    "__version__",
    "calibrate",
    "check",
    "evaluate",
    "explain",
    "explain_all",
    "finetune",
    "index",
    "inspect",
    "label_next",
    "load",
    "predict",
    "pretrain",
    "report",
    "study",
    "suspects",
]

_VERBS = dict.fromkeys(("check", "evaluate", "explain", "finetune", "load", "predict", "pretrain"), "pretune.run") | {
    "calibrate": "pretune.calibrating",
    "explain_all": "pretune.explaining_all",
    "index": "pretune.indexing",
    "inspect": "pretune.inspecting",
    "label_next": "pretune.labelling",
    "report": "pretune.reporting.page",
    "study": "pretune.studying",
    "suspects": "pretune.label_errors",
}
"""Where each public function is; no module may have its name."""


def __getattr__(name: str) -> Any:
    """Imports the verbs, and torch with them, on first use."""
    if name in _VERBS:
        from pretune.imports import imported

        return getattr(imported(_VERBS[name]), name)
    raise AttributeError(f"module 'pretune' has no attribute {name!r}")
