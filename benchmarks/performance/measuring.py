"""Processes of their own, what they hold and how long they take; and rows of results."""

import gc
import logging
import os
import platform
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch

MB = 1e6


def row(what, value, unit="", behind="", *, least=None, most=None):
    """One line of a table: what was measured, the numbers behind it, and what is aimed at."""
    return {"what": what, "value": float(value), "unit": unit, "least": least, "most": most, "behind": behind}


def apart(do, *words, **named):
    """Do something in a process of its own, so that memory and threads are its own, and return what it returned."""
    os.environ["TQDM_DISABLE"] = "1"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        return pool.submit(do, *words, **named).result()


def _quiet():
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def peak(do) -> float:
    """Most MB that this process holds while something is done, above what it holds with all libraries; Linux only."""
    for name in ("sklearn.decomposition", "spatialdata", "tifffile", "zarr.codecs", "sphisto.tl._fit_projection",
                 "sphisto.tl._predict"):  # fmt: skip
        import_module(name)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before = _held("VmRSS")
    do()
    return (_held("VmHWM") - before) / MB


def _held(name) -> int:
    """Bytes in a line of the process's status."""
    return 1024 * int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0])


def seconds(do) -> float:
    """How long something takes; what it does on a GPU is waited for."""
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    wait()
    started = time.perf_counter()
    do()
    wait()
    return time.perf_counter() - started


def in_turn(*tasks, rounds=3):
    """For each task its seconds in several rounds, all tasks in turn, after one round that does not count."""
    for task in tasks:
        task()
    return [list(times) for times in zip(*([seconds(task) for task in tasks] for _ in range(rounds)), strict=True)]


def middle_ratio(above, below) -> float:
    """The median ratio of two lists of seconds of the same rounds."""
    return median(a / b for a, b in zip(above, below, strict=True))


def machine(device="cpu") -> str:
    """Say what this runs on, and how busy it is."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpu = info.partition("model name")[2].partition("\n")[0].strip("\t :") or platform.machine()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    gpu = f", {torch.cuda.get_device_name(torch.device(device))}" if device.startswith("cuda") else ""
    return f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads{load}{gpu}, torch {torch.__version__}"
