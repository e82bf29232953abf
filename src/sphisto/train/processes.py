"""Several processes of this machine that train one network together."""

from __future__ import annotations

import os
import pickle
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, start_processes

from sphisto._cores import n_cores


def check_devices(device: torch.device, n: int) -> None:
    """Refuse to train on more devices than there are, or where processes cannot be started."""
    if n == 1:
        return
    if n < 1:
        msg = f"Found devices={n}; expected 1 or more."
        raise ValueError(msg)
    if device.type == "mps" or str(device) != device.type:
        why = "mps cannot train together" if device.type == "mps" else "one device is named"
        msg = f'Found device="{device}" and devices={n}: {why}. Expected devices=1, or device="cuda" or "cpu".'
        raise ValueError(msg)
    there = torch.cuda.device_count() if device.type == "cuda" else n_cores()
    if n > there:
        kind = "GPUs" if device.type == "cuda" else "processor cores"
        msg = f"Found devices={n} and {there} {kind}; expected no more devices than there are. Lower `devices`."
        raise ValueError(msg)
    if _reads_script_anew():
        msg = (
            "With devices > 1 further processes are started, and each reads your script again: put what it does under "
            '`if __name__ == "__main__":`.'
        )
        raise RuntimeError(msg)


def _reads_script_anew() -> bool:
    """Whether this is the user's script in a started process, which runs it under this name before anything else."""
    return any(
        frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__mp_main__"
        for frame, _ in traceback.walk_stack(None)
    )


def run_together(function: Callable[..., Any], n: int, *args: Any) -> None:
    """Call a function of a module, with a rank before its arguments, in ``n`` new processes that Lightning joins.

    They are spawned, not forked: this process may hold threads and a GPU, of which a fork would inherit broken copies.
    If one ends early, all are ended.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # in bytes: tensors handed over as they are would be shared, and each process would change those of all
    payload = pickle.dumps((function, args))
    context = start_processes(_begin, (n, port, payload), nprocs=n, join=False, start_method="spawn")
    try:
        while not context.join():
            pass
    except (ProcessRaisedException, ProcessExitedException) as error:
        reason = str(error).strip().splitlines()[-1]
        msg = (
            f"One of {n} processes that train together ended early ({reason}). The state after the last whole epoch is "
            "kept: call again with resume=True."
        )
        raise RuntimeError(msg) from error
    finally:
        for process in context.processes:
            process.kill()  # if it still runs; what waits for another process in a sum does not hear SIGTERM
            process.join()


def _begin(rank: int, n: int, port: int, payload: bytes) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0",
        "WORLD_SIZE": str(n),
    }  # fmt: skip
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, n_cores() // n))
    function, args = pickle.loads(payload)
    function(rank, *args)
    if distributed.is_initialized():
        distributed.destroy_process_group()
    # not by taking the interpreter down: tensors that gloo's threads let go of after it abort the process
    os._exit(0)
