"""Importing what is heavy."""

from __future__ import annotations

__all__ = ["imported"]

import gc
import importlib
import sys
from types import ModuleType


def imported(module: str, *, keep: bool = False) -> ModuleType:
    """Imports a module with the garbage collector off, which would walk the growing heap again and again.

    Args:
        module: Its full name.
        keep: Whether what is in memory then is never looked at again: for a process of our own alone, since no cycle
            of it is ever freed. A process ends a second sooner with it.
    """
    if module in sys.modules or not gc.isenabled():
        return importlib.import_module(module)
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if keep:
            gc.freeze()
        gc.enable()
