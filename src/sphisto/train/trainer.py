"""What Lightning's trainer keeps, shows and says, and how Ctrl-C ends it."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import warnings
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback, Checkpoint

from sphisto._progress import Pace, progress_bar
from sphisto.core.atomic import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import lightning.pytorch as lightning

_PHASES = {"image": "train, image", "joint": "train, image and spots"}
_LESS = "fewer `max_epochs`, `config='fast'`, a larger `um_per_px` or a GPU (`device`) take less"


class Keeper(Checkpoint):
    """Keeps the state after each epoch in one file, replaced as a whole (Checkpoint callbacks run last)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.path)  # writes nothing: all processes meet here
            return
        with whole_file(self.path) as new:
            trainer.save_checkpoint(new)


class Progress(Callback):
    """One bar over both phases, and the pace of each."""

    def __init__(self, shown: bool) -> None:
        self.shown = shown

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        done, image = trainer.global_step, module.task.image_epochs * module.n_steps
        total = int(trainer.max_epochs or 0) * module.n_steps
        self.bar = progress_bar("train", total, initial=done, shown=self.shown)
        steps = {"image": image - done, "joint": total - max(done, image)}
        self.paces = {name: Pace(_PHASES[name], n, unit="step", less=_LESS) for name, n in steps.items()}

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, *_: Any) -> None:
        self.paces[module.phase].update()
        self.bar.set_description(_PHASES[module.phase], refresh=False)
        name = "image_loss" if module.phase == "image" else "spot_loss"
        if self.bar.update():  # some times a second: reading a loss waits for the device
            self.bar.set_postfix({name: f"{float(module.noted[name][-1]):.4f}"})

    def teardown(self, *_: Any, **__: Any) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's notes on hardware and its hints on loaders to itself."""
    names = ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the exit which Lightning makes of Ctrl-C back into KeyboardInterrupt: a notebook must live on."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if main and handler is not None:
            signal.signal(signal.SIGINT, handler)
