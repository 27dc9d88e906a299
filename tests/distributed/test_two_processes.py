"""Two gloo processes equal one process: same batches, same noise, same gradients, up to rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

SCRIPT = Path(__file__).with_name("worker.py")


def launch(out: Path, processes: int, micro_batches: int, strategy: str, *, port: int) -> dict[str, object]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
    command = [*torchrun, f"--master_port={port}", str(SCRIPT), str(out), str(micro_batches), strategy]
    env = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return load_file(out / "weights.safetensors")


@pytest.mark.parametrize(("strategy", "port"), [("full", 29611), ("unfreeze", 29613)])
def test_two_processes_equal_one(tmp_path: Path, strategy: str, port: int) -> None:
    one = launch(tmp_path / "one", 1, 2, strategy, port=port)
    two = launch(tmp_path / "two", 2, 1, strategy, port=port + 1)
    for name in one:
        assert_close(one[name], two[name], atol=2e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
