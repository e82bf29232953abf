"""The training: first the image alone, then image and spots together (by Lightning)."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from scipy import sparse
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sphisto._progress import shows_progress, stage
from sphisto._settings import logger
from sphisto.genes.model import rates
from sphisto.networks.interpolation import drawn_out_at
from sphisto.networks.precision import computed
from sphisto.predict.fitted import read_safely
from sphisto.train.crops import Batch, Crops, CropsOfSections, pool
from sphisto.train.processes import run_together
from sphisto.train.trainer import Keeper, Progress, interruptible, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
    from numpy.typing import NDArray

    from sphisto.config import TrainConfig
    from sphisto.field.field import Field
    from sphisto.genes.model import GeneModel
    from sphisto.networks.precision import Precision
    from sphisto.networks.registry import Network
    from sphisto.slide.slide import Slide

_LOSSES = ("loss", "image_loss", "spot_loss", "held_out_loss", "held_out_interpolated")
HISTORY = ("epoch", "phase", *_LOSSES, "learning_rate", "seconds")


@dataclass(frozen=True, eq=False)
class Part:
    """One section of a training."""

    slide: Slide  # with measured spots
    model: GeneModel  # of its genes: the same ones, in the same factors, in every part
    field: Field  # fitted to the spots to learn from
    # learned, held_out: (n,) bool: spots to learn from; spots only watched
    learned: NDArray[np.bool_]
    held_out: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Task:
    """Everything a training needs."""

    parts: tuple[Part, ...]  # the sections, at least one
    network: Network
    module: nn.Module
    config: TrainConfig
    seed: int  # of everything random
    precision: Precision  # of the convolutions, unless the training goes on from a checkpoint: then its own
    call: dict[str, Any]  # plain values that name this training: a checkpoint of another one is refused
    # entries of the history that earlier rounds left. Only the first round begins with the image alone
    past: tuple[dict[str, Any], ...] = ()
    # what the caller keeps from round to round, plain values and tensors: checkpoints hold it
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def rounds(self) -> tuple[int, ...]:
        """Epochs of each round; of a network whose maps do not start from the prior there is one."""
        return (self.config.epochs,) if self.network.one_map_per_gene else self.config.rounds

    @property
    def epochs(self) -> int:
        """Epochs of this round, the first one unless there are entries of earlier ones."""
        return self.rounds[-1 if self.past else 0]

    @property
    def image_epochs(self) -> int:
        """Epochs of this round in which only the image counts."""
        return 0 if self.past else int(self.epochs * self.config.image_share)


class Trained(NamedTuple):
    """History of a training, one entry per epoch, and the precision of its convolutions."""

    history: dict[str, NDArray[Any]]
    precision: Precision


def train(task: Task, *, device: torch.device, checkpoint: Path, resume: bool = False) -> Iterator[Trained]:
    """Train the task's module in place, round by round; yield after each what was trained so far.

    Whoever asks for the next round has it trained. The state after each epoch is kept in ``checkpoint``; with
    ``resume`` the training goes on from there. After Ctrl-C the checkpoint stays and KeyboardInterrupt is raised.
    Several devices train in processes of their own.

    Raises
    ------
    ValueError
        If the checkpoint is damaged or belongs to another call.
    RuntimeError
        If one of several processes fails.
    """
    number, starts = 0, np.cumsum((0, *task.rounds))
    if resume:
        state = _left_in(checkpoint, task.call)
        left = state["history"]
        task.notes.update(state.get("notes", {}))
        number = max(int(np.searchsorted(starts, len(left))) - 1, 0)
        task = replace(task, past=tuple(left[: starts[number]]))
        logger.info("The training goes on after epoch %d of %d.", len(left), task.config.epochs)
    for _ in range(number, len(task.rounds)):
        shown = shows_progress()  # by the settings of this process: others that train have their own
        with contextlib.nullcontext() if shown else stage(f"train, {task.epochs} epochs"):
            state = _round(task, device, checkpoint, resume, shown)
        entries, resume = state["history"], False
        history = {name: np.asarray([entry[name] for entry in entries]) for name in HISTORY}
        yield Trained(history, state["precision"])
        task = replace(task, past=tuple(entries), precision=state["precision"])


def _round(task: Task, device: torch.device, checkpoint: Path, resume: bool, shown: bool) -> dict[str, Any]:
    """Train one round and return what a checkpoint holds beside the weights."""
    n = task.config.devices
    if n == 1:
        return _fit(0, task, device, checkpoint, resume, shown)
    run_together(_fit, n, task, device, checkpoint, resume, shown)
    left = read_safely(checkpoint, "checkpoint")  # after the last epoch: the processes left nothing else
    task.module.load_state_dict({name.removeprefix("net."): value for name, value in left["state_dict"].items()})
    state: dict[str, Any] = left["sphisto"]
    return state


def _fit(rank: int, task: Task, device: torch.device, checkpoint: Path, resume: bool, shown: bool) -> dict[str, Any]:
    """Train here, alone or as one of several processes, and return what a checkpoint holds beside the weights."""
    n = task.config.devices
    training = _Training(task)
    callbacks: list[Callback] = [Keeper(checkpoint)]
    if rank == 0:
        callbacks.append(Progress(shown))
    with quiet(), torch.random.fork_rng(), interruptible():
        torch.manual_seed(task.seed)
        trainer = lightning.Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=[device.index] if device.index is not None else n,
            strategy="ddp" if n > 1 else "auto",
            plugins=[LightningEnvironment()],  # tasks of a batch system are not taken for devices
            max_epochs=task.epochs,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=True,
            reload_dataloaders_every_n_epochs=1,
            gradient_clip_val=1.0,
            use_distributed_sampler=False,
        )
        trainer.fit(training, ckpt_path=str(checkpoint) if resume else None, weights_only=True)
    return training.state()


class _Training(lightning.LightningModule):
    """Losses and schedule around a network."""

    loadings: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.net, self.precision = task, task.module, task.precision
        modelled = np.flatnonzero(~np.isnan(task.parts[0].model.loadings[:, 0]))
        self.genes, self.n_contrasts = modelled, task.parts[0].model.n_contrasts
        loadings = np.stack([part.model.loadings[modelled] for part in task.parts])
        self.register_buffer("loadings", torch.from_numpy(loadings), persistent=False)
        learned = [part.slide.spots.values[np.flatnonzero(part.learned)][:, modelled] for part in task.parts]
        is_counts = task.parts[0].slide.spots.is_counts
        self.spot_loss = task.network.spot_loss(sparse.vstack(learned, format="csr"), is_counts=is_counts)
        height, width = (
            -(-min(task.config.crop, *sides) // task.network.stride) * task.network.stride
            for sides in zip(*(part.slide.grid.shape for part in task.parts), strict=True)
        )
        self.crop = (height, width)
        pixels = task.config.batch * height * width
        tissue = [float(part.slide.tissue.sum()) for part in task.parts]
        self.shares = np.array(tissue) / max(sum(tissue), 1)
        n_batches = max(task.config.least_batches, math.ceil(sum(tissue) / pixels))
        self.n_steps = math.ceil(n_batches / task.config.devices)
        spot = task.network.loss_spot
        self.footprints = [replace(part.slide, spot=spot(part.slide.spot)).footprint() for part in task.parts]
        self.history: list[dict[str, Any]] = list(task.past)
        self.noted: dict[str, list[Tensor]] = {}  # left on the device, so that no step waits for it
        self.started = 0.0

    def train_dataloader(self) -> DataLoader[Batch]:
        task, n_batches = self.task, self.n_steps * self.task.config.devices
        parts = [
            Crops(
                part.slide, footprint, part.field, self.genes, part.learned, part.held_out,
                self.crop, task.config, n_batches, task.seed, self.epoch, section,
            )
            for section, (part, footprint) in enumerate(zip(task.parts, self.footprints, strict=True))
        ]  # fmt: skip
        crops = parts[0] if len(parts) == 1 else CropsOfSections(tuple(parts), self.shares)
        return DataLoader(
            crops, batch_size=None, sampler=range(self.global_rank, n_batches, task.config.devices),
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )  # fmt: skip

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=self.task.config.learning_rate, weight_decay=1e-4)
        total = self.task.epochs * self.n_steps

        def schedule(step: int) -> float:
            warm = (step + 1) / max(1.0, self.task.config.warm_up * total)
            return min(warm, 0.5 * (1 + math.cos(math.pi * min(1.0, step / total))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def epoch(self) -> int:
        """Epochs before this one, those of earlier rounds among them."""
        return len(self.task.past) + self.current_epoch

    @property
    def phase(self) -> str:
        """``"image"`` while only the image counts, then ``"joint"``."""
        return "image" if self.current_epoch < self.task.image_epochs else "joint"

    def training_step(self, batch: Batch, _: int) -> Tensor:
        drawn, values = computed(self.net, batch.image, batch.prior, self.precision, pixels=batch.pixel)
        image_loss = self.task.network.image_loss(drawn, batch.image)
        self._note("image_loss", image_loss)
        if self.phase == "image":
            self._note("loss", image_loss)
            return image_loss
        pooled = pool(values, batch)
        weight = torch.where(batch.hidden, 1.0, self.task.config.seen_weight) * ~batch.held_out
        spot_loss = self._spot_loss(pooled, batch, weight)
        self._watch(batch, pooled)
        loss = self.task.config.image_weight * image_loss + spot_loss
        self._note("spot_loss", spot_loss)
        self._note("loss", loss)
        return loss

    def _spot_loss(self, pooled: Tensor, batch: Batch, weight: Tensor) -> Tensor:
        """Loss of (m, K) densities at the spots of any (m,) weight: at the others, genes need not be made of them."""
        rows = weight > 0
        expected = rates(pooled[rows], self.loadings[batch.section], self.n_contrasts)
        return self.spot_loss(expected, batch.values[rows], weight[rows])

    @torch.no_grad()
    def _watch(self, batch: Batch, pooled: Tensor) -> None:
        """Score the held-out spots before the step, beside the prior that the step started from."""
        if not batch.held_out.any():
            return
        watched = batch.held_out.float()
        interpolated = pool(drawn_out_at(batch.prior, batch.pixel, batch.image.shape[2] // batch.prior.shape[2]), batch)
        self._note("held_out_loss", self._spot_loss(pooled, batch, watched))
        self._note("held_out_interpolated", self._spot_loss(interpolated, batch, watched))

    def _note(self, name: str, value: Tensor) -> None:
        self.noted.setdefault(name, []).append(value.detach())

    def on_train_epoch_start(self) -> None:
        self.started, self.noted = time.perf_counter(), {}

    def on_train_epoch_end(self) -> None:
        rate = float(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        entry: dict[str, Any] = {"epoch": self.epoch, "phase": self.phase, "learning_rate": rate}
        entry |= self._means()
        if not math.isfinite(entry["loss"]):
            msg = f"The loss became {entry['loss']} in epoch {self.epoch}; the checkpoint holds the epoch before."
            raise FloatingPointError(msg)
        entry["seconds"] = time.perf_counter() - self.started
        self.history.append(entry)

    def _means(self) -> dict[str, float]:
        """Mean of each loss over the batches of an epoch, those of all processes."""
        noted = [torch.stack(self.noted[name]).double() if name in self.noted else torch.zeros(0) for name in _LOSSES]
        totals = torch.tensor([[float(values.sum()), len(values)] for values in noted], dtype=torch.float64)
        if self.task.config.devices > 1:
            totals = self.trainer.strategy.reduce(totals.to(self.device), reduce_op="sum").cpu()
        return {name: float(total / n) for name, (total, n) in zip(_LOSSES, totals, strict=True)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["sphisto"] = self.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history, self.precision = (checkpoint["sphisto"][name] for name in ("history", "precision"))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds beside weights and optimiser: plain values."""
        kept = {"history": self.history, "precision": self.precision, "notes": self.task.notes}
        return {"call": self.task.call, **kept}


def _left_in(checkpoint: Path, call: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint holds beside weights; refuse one that another call left: going on would mix two fits."""
    try:
        content = read_safely(checkpoint, "checkpoint")
    except ValueError as error:
        msg = f"{error} Start anew with resume=False."
        raise ValueError(msg) from error
    state = content.get("sphisto", {}) if isinstance(content, dict) else {}
    left = state.get("call", {})
    differing = [
        f"{name} (there {left.get(name)}, here {value})" for name, value in call.items() if left.get(name) != value
    ]
    if differing:
        msg = (
            f"The checkpoint {checkpoint} is of another call: {', '.join(differing)}. Call as before, or start anew "
            "with resume=False."
        )
        raise ValueError(msg)
    return dict(state)
