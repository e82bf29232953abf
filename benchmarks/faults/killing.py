"""Run things in processes of their own, to be killed.

A copy of this process has all libraries loaded, which takes a new process longer than the whole fit. This process
itself must never start a thread: it only forks.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any


def fork(do: Callable[[], Any]) -> tuple[int, int]:
    """Start a copy of this process that does something; return its id and a pipe for the result."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    os.close(reader)
    try:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(pickle.dumps(do()))
    except BaseException:  # noqa: BLE001 - nothing may go on in the copy
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def run(do: Callable[[], Any]) -> Any:
    """Do something in a copy of this process and return what it returned."""
    child, reader = fork(do)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        msg = f"The process ended with status {status}; its message is above."
        raise RuntimeError(msg)
    return pickle.loads(content)  # from a copy of this process


def kill_after(do: Callable[[], Any], seconds: float) -> bool:
    """Kill a copy of this process that does something after some seconds; tell whether it was still at it."""
    child, reader = fork(do)
    deadline, ended = time.monotonic() + seconds, False
    while time.monotonic() < deadline and not ended:
        ended = os.waitpid(child, os.WNOHANG)[0] > 0
        time.sleep(0.002)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(reader)
    return not ended
