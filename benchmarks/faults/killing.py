"""Run things in processes of their own, to be killed."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def fork(do: Callable[[], Any]) -> tuple[int, int]:
    """Start a copy of this process that does something; return its id and a pipe for the result.

    A copy has all libraries loaded, which takes a new process longer than the whole fit. This process itself must
    never start a thread: it only forks.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    os.close(reader)
    code = 1
    try:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(pickle.dumps(do()))
        code = 0
    except BaseException:  # noqa: BLE001 - nothing may go on in the copy
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


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
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            os.close(reader)
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    return True
