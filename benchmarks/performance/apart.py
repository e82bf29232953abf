"""Processes of their own, and what they held and where they ran."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 1e6


@dataclass(frozen=True)
class Setting:
    """What a run is told.

    Parameters
    ----------
    data
        Folder of real sections; ``None`` leaves out what needs them.
    device
        Where networks run: ``"cpu"``, ``"cuda"``.
    whole
        Whether tissue fills the large slides.
    """

    data: Path | None = None
    device: str = "cpu"
    whole: bool = False


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Parameters
    ----------
    what
        What was measured.
    value, unit
        A number and its unit, ``""`` for a ratio.
    behind
        The numbers behind it.
    least, most
        What is aimed at; ``None`` if nothing is.
    """

    what: str
    value: float
    unit: str = ""
    behind: str = ""
    least: float | None = None
    most: float | None = None


def apart(do: Callable[..., Any], *words: Any, **named: Any) -> Any:
    """Do something in a process of its own, so that memory and threads are its own, and return what it returned."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(do, *words, **named).result()


def peak(do: Callable[[], Any]) -> float:
    """Most MB that this process holds while something is done, above what it holds with all that a call loads.

    Raises
    ------
    OSError
        If the system does not tell; Linux does.
    """
    import sklearn.decomposition
    import spatialdata
    import tifffile
    import torch
    import zarr.codecs

    import sphisto.tl._fit_projection
    import sphisto.tl._predict

    assert all((sklearn, spatialdata, tifffile, torch, zarr, sphisto))
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    except OSError as error:
        msg = f"The most memory a process held is told by Linux, by /proc/self/clear_refs; here: {error}"
        raise OSError(msg) from error
    before = _held("VmRSS")
    do()
    return (_held("VmHWM") - before) / MB


def _held(name: str) -> int:
    """Bytes in a line of the process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def seconds(do: Callable[[], Any]) -> float:
    """How long something takes; what it does on a GPU is waited for."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    wait()
    started = time.perf_counter()
    do()
    wait()
    return time.perf_counter() - started


def in_turn(*tasks: Callable[[], Any], rounds: int = 3) -> list[list[float]]:
    """(rounds, tasks) seconds of tasks done in turn, after one round that does not count."""
    for task in tasks:
        task()
    return [[seconds(task) for task in tasks] for _ in range(rounds)]


def middle(values: Any) -> float:
    """The median, as a plain number."""
    return float(statistics.median(map(float, values)))


def machine(device: str) -> str:
    """Say what this runs on, and how busy it is."""
    import torch

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    gpu = f", {torch.cuda.get_device_name(torch.device(device))}" if device.startswith("cuda") else ""
    return f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads{load}{gpu}, torch {torch.__version__}"
