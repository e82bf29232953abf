"""Settings of reading rasters of a store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadConfig:
    """How many chunks are read by how many threads.

    Parameters
    ----------
    few
        Chunks that one thread reads: more threads would be started for nothing, and keep memory of their own.
    most_threads
        More would wait for the disk, and for whatever takes what they read.
    ahead
        Chunks for each thread that are decoded or wait to be taken: few, as each is in memory.
    """

    few: int = 4
    most_threads: int = 8
    ahead: int = 2
