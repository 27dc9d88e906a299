"""Pre-train on your own unlabelled data, fine-tune on few labels, and know whether it was worth it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pretune.errors import CollapseError, ConfigError, DataError, ModelError, NumericsError, PretuneError, RunError

if TYPE_CHECKING:
    from pretune.explaining_all import explain_all
    from pretune.run import check, evaluate, explain, finetune, load, predict, pretrain

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
    "check",
    "evaluate",
    "explain",
    "explain_all",
    "finetune",
    "load",
    "predict",
    "pretrain",
]

_VERBS = dict.fromkeys(("check", "evaluate", "explain", "finetune", "load", "predict", "pretrain"), "pretune.run") | {
    "explain_all": "pretune.explaining_all"
}
"""Where each public function is."""


def __getattr__(name: str) -> Any:
    """Imports the verbs, and torch with them, on first use."""
    if name in _VERBS:
        import importlib

        return getattr(importlib.import_module(_VERBS[name]), name)
    raise AttributeError(f"module 'pretune' has no attribute {name!r}")
