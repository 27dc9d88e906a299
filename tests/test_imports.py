"""Heavy modules are imported without the garbage collector, which is on again afterwards, whatever happens."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from pretune.imports import imported

_FROZEN = """
import gc
from pretune.imports import imported
assert imported("wave", keep={keep}).__name__ == "wave"
assert gc.isenabled()
print(gc.get_freeze_count())
"""


@pytest.mark.parametrize("keep", [True, False])
def test_the_heap_is_frozen_only_where_it_is_ours(keep: bool) -> None:
    done = subprocess.run([sys.executable, "-c", _FROZEN.format(keep=keep)], capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 0) is keep


def test_collection_is_on_again_after_a_failed_import() -> None:
    with pytest.raises(ModuleNotFoundError):
        imported("pretune.nothing")
    assert gc.isenabled()


def test_collection_stays_off_where_the_user_turned_it_off() -> None:
    gc.disable()
    try:
        imported("pretune.imports")
        assert not gc.isenabled()
    finally:
        gc.enable()
