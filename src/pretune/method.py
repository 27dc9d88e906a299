"""What every modality, objective, task, strategy and explainer has: a name and options."""

from __future__ import annotations

__all__ = ["Method"]

import inspect
from typing import Any


class Method:
    """One file of a registry folder.

    The keyword-only arguments of ``__init__`` are the options: on the command line, in config files, in Python.
    Each is stored on the instance under its own name, so that `options` can give the resolved values back.
    """

    @property
    def name(self) -> str:
        """The word for it on the command line: the name of its file."""
        return type(self).__module__.rpartition(".")[2]

    @classmethod
    def option_names(cls) -> list[str]:
        """Names of the keyword-only ``__init__`` arguments, in order."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]

    @classmethod
    def default(cls, name: str) -> Any:
        """What an option is when it is not given."""
        return inspect.signature(cls.__init__).parameters[name].default

    def options(self) -> dict[str, Any]:
        """The resolved options, as ``__init__`` would take them."""
        return {name: getattr(self, name) for name in self.option_names()}

    def spec(self) -> dict[str, Any]:
        """The form that recipe.yaml stores: the name and the options in one mapping."""
        return {"name": self.name, **self.options()}
