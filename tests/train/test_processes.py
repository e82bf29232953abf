from __future__ import annotations

import importlib
import operator
import subprocess
import sys

import pytest
import torch

from sphisto.train.processes import check_devices, run_together


def test_more_devices_than_there_are_or_can_train_together_are_refused(monkeypatch):
    monkeypatch.setattr("sphisto.train.processes.n_cores", lambda: 4)
    check_devices(torch.device("cpu"), 4)
    check_devices(torch.device("cuda:1"), 1)
    with pytest.raises(ValueError, match="devices=5 and 4 processor cores; .* Lower `devices`"):
        check_devices(torch.device("cpu"), 5)
    with pytest.raises(ValueError, match="devices=0; expected 1 or more"):
        check_devices(torch.device("cpu"), 0)
    with pytest.raises(ValueError, match="mps cannot train together"):
        check_devices(torch.device("mps"), 2)
    with pytest.raises(ValueError, match=r'device="cuda:1" and devices=2: one device is named'):
        check_devices(torch.device("cuda:1"), 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="devices=2 and 1 GPUs"):
        check_devices(torch.device("cuda"), 2)


def test_what_fails_in_one_process_is_said():
    with pytest.raises(RuntimeError, match=r"One of 2 processes .*ended early \(.*ZeroDivisionError.*resume=True"):
        run_together(operator.truediv, 2, 0)


def test_a_process_that_ends_while_its_threads_still_sum_does_not_abort(tmp_path, monkeypatch):
    """What the threads of gloo hold may outlive the interpreter, which aborts then: the training would seem to fail."""
    (tmp_path / "summing.py").write_text(
        "import torch\n"
        "from torch import distributed\n"
        "def begin_to_sum(rank):\n"
        "    distributed.init_process_group('gloo', rank=rank, world_size=2)\n"
        "    for _ in range(300):\n"
        "        distributed.all_reduce(torch.ones(300_000), async_op=True)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run_together(importlib.import_module("summing").begin_to_sum, 2)


def test_a_script_without_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import operator, torch\n"
        "from sphisto.train import processes as ranks\n"
        "ranks.n_cores = lambda: 2\n"
        'ranks.check_devices(torch.device("cpu"), 2)\n'
        "ranks.run_together(operator.add, 2, 1)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=600)
    assert done.returncode != 0
    assert 'put what it does under `if __name__ == "__main__":`' in done.stderr
