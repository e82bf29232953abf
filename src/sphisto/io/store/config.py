"""Settings of reading rasters of a store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadConfig:
    """How many chunks are read by how many threads."""

    # chunks that one thread reads: more threads would be started for nothing, and keep memory of their own
    few: int = 4
    most_threads: int = 8  # more would wait for the disk, and for whatever takes what they read
    ahead: int = 2  # chunks for each thread that are decoded or wait to be taken: few, as each is in memory
