"""Rows of numbers in memory or in a file, written one after the other and read by place."""

from __future__ import annotations

__all__ = ["Slot", "Store"]

from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Slot: TypeAlias = tuple[int, tuple[int, ...]]
"""Where a row lies: its first element (in a file) or index (in memory), and its shape."""


class Store:
    """Rows of one output.

    Args:
        path: The file; None keeps the rows in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.num_bytes = 0
        self._rows: list[NDArray[np.float32]] = []
        self._file = path.open("wb") if path else None
        self._map: NDArray[np.float32] | None = None

    def add(self, row: NDArray[np.float32]) -> Slot:
        """Appends a row of any shape and says where it is."""
        slot = (self.num_bytes // 4 if self._file else len(self._rows), row.shape)
        if self._file:
            self._file.write(np.ascontiguousarray(row).tobytes())
        else:
            self._rows.append(row.copy())
        self.num_bytes += row.nbytes
        return slot

    def finish(self) -> None:
        """Ends writing; rows can be read after it."""
        if self._file and self.path:
            self._file.close()
            self._map = np.memmap(self.path, dtype=np.float32, mode="r")

    def read(self, slot: Slot) -> NDArray[np.float32]:
        """The row that `add` gave this place for."""
        start, shape = slot
        if self._map is None:
            return self._rows[start]
        return self._map[start : start + int(np.prod(shape))].reshape(shape)

    def close(self) -> None:
        """Drops the rows and removes the file."""
        self._map = None
        self._rows = []
        if self._file and self.path:
            self._file.close()
            self.path.unlink(missing_ok=True)
