from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("objective_contract", "task_contract")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the encoders lie that tasks start from."""
    return tmp_path_factory.mktemp("encoders")
