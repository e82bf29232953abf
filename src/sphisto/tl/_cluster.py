"""Regions written by the workers of a dask cluster, one task each."""

from __future__ import annotations

import contextlib
import pickle
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sphisto import __version__
from sphisto.core.atomic import whole_file
from sphisto.io.store import write as building
from sphisto.io.store.transaction import remove_unfinished_chunks
from sphisto.predict.tiles import device_of, precision_of
from sphisto.tl._regions import write_regions

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from distributed import Client

    from sphisto.networks.precision import Precision
    from sphisto.predict.fitted import Fitted
    from sphisto.tl._regions import Region, Sums, Writing


def check_client(client: Any) -> None:
    """Refuse what is no client of a running cluster that waits for results."""
    if client is None:
        return
    try:
        from distributed import Client
    except ImportError as error:
        msg = 'Computing on a cluster needs distributed: pip install "sphisto[cluster]".'
        raise ImportError(msg) from error
    if not isinstance(client, Client):
        msg = f"Found client={client!r}; expected a `distributed.Client` (or None, to compute here)."
        raise TypeError(msg)
    if client.asynchronous or client.status != "running":
        kind = "an asynchronous client" if client.asynchronous else f"a client that is {client.status}"
        msg = f"Found {kind}; expected one that is connected and waits for results: `distributed.Client(...)`."
        raise ValueError(msg)


def precision_on(client: Client, fitted: Fitted, device: str) -> Precision:
    """Precision in which a worker, any of them, computes a network; all are to compute it alike."""
    return client.submit(_precision, fitted.params, device, pure=False).result()


def write_on(
    client: Client, writing: Writing, regions: Mapping[int, Region], device: str, folder: Path
) -> Generator[tuple[int, Sums]]:
    """Let workers write numbered regions; yield the number and sums of each as it is done, in any order.

    A region of a worker that dies is written anew by another one, to the same bits: a chunk is replaced as a whole, so
    that it does not matter how far the first one came. What workers need lies in a file in ``folder``, and they stop
    at the next tile when it is gone: none goes on writing for a caller that gave up.
    """
    from distributed import as_completed, wait

    ending = 30  # seconds that workers are given for the tile they are at, once a run is given up
    sent = folder / f"sent-{uuid.uuid4().hex}"
    for left in folder.glob("sent-*"):
        left.unlink()
    # by a file and not by the scheduler: the prior may take some hundred MB, and what only one worker holds dies with it
    stored = building.stored_slide(writing.staging, writing.slide)
    slim = replace(writing, slide=stored, posterior=writing.posterior.on(stored), staging=writing.staging.resolve())
    with whole_file(sent) as new:
        new.write_bytes(pickle.dumps((__version__, slim)))
    futures: dict[Any, int] = {}
    try:
        received = client.submit(_received, sent.resolve(), pure=False)
        for number, region in regions.items():
            futures[client.submit(_write_region, received, region, device, sent.resolve(), pure=False)] = number
        for future in as_completed(list(futures)):
            yield futures[future], future.result()
    finally:
        sent.unlink(missing_ok=True)
        with contextlib.suppress(TimeoutError):
            wait(list(futures), timeout=ending)
        client.cancel(list(futures))
        remove_unfinished_chunks(writing.staging)


def _precision(params: dict[str, Any], device: str) -> Precision:
    return precision_of(params, device_of(device))


def _received(sent: Path) -> Writing:
    """Read what the caller left."""
    if not sent.exists():
        msg = (
            f"This worker finds no {sent}. Either the call that asked for it has ended, or the store is in a folder that "
            "this machine does not share: expected one that caller and workers see under the same path."
        )
        raise FileNotFoundError(msg)
    # nothing but what dask itself does with every task: workers trust their caller
    version, writing = pickle.loads(sent.read_bytes())
    if version != __version__:
        msg = f"This worker has sphisto {__version__}, the caller {version}; expected the same. Update one of them."
        raise ImportError(msg)
    return writing


def _write_region(writing: Writing, region: Region, device: str, sent: Path) -> Sums:
    """Write one region, as a task."""
    found: list[Sums] = []
    tiles_written = write_regions(writing, {0: region}, device_of(device), done=lambda _, sums: found.append(sums))
    with contextlib.closing(tiles_written):
        for _ in tiles_written:
            if not sent.exists():
                msg = "The call that asked for this region has ended."
                raise RuntimeError(msg)
    return found[0]
