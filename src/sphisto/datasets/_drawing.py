"""The rule by which the toy section is drawn: stain and expression as pure functions of position and seed.

Nothing here depends on the window that is drawn, so that a section of any size can be drawn block by block, in
any order, and a pixel always gets the same value. All lengths are in um, order is (y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice, product
from string import ascii_lowercase
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sphisto.core.tiles import Window
from sphisto.datasets._noise import GridNoise, PointNoise, hashed, uniform
from sphisto.datasets.config import DrawingConfig

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class TissueClass:
    """A kind of tissue: optical density of its two stains, its nuclei and its RNA."""

    haematoxylin: float
    eosin: float
    nuclei: float  # chance that a place of the nuclei lattice is taken
    radius: float  # of a nucleus, um
    elongation: float  # long over short axis of a nucleus
    rna: float  # RNA content relative to the mean of the section


CLASSES = (
    TissueClass(haematoxylin=0.05, eosin=0.46, nuclei=0.20, radius=3.2, elongation=2.2, rna=0.7),  # fibrous stroma
    TissueClass(haematoxylin=0.30, eosin=0.20, nuclei=0.90, radius=3.2, elongation=1.1, rna=1.6),  # lymphoid
    TissueClass(haematoxylin=0.24, eosin=0.46, nuclei=0.55, radius=3.9, elongation=1.3, rna=1.3),  # epithelium
    TissueClass(haematoxylin=0.02, eosin=0.06, nuclei=0.05, radius=3.0, elongation=1.5, rna=0.3),  # fat
)
GLASS = np.array([243.0, 242.0, 244.0])
# optical density of haematoxylin and eosin in red, green, blue, as Macenko et al. (2009) found them in sections
STAINS = np.array([[0.56, 0.72, 0.41], [0.22, 0.80, 0.56]])

# streams of random numbers; no two things may share one
_PLACE, _OUTLINE, _HOLE, _HOME, _CLASS, _STRENGTH, _TEXTURE, _FIBRE, _FAT, _NUCLEUS, _PIXEL, _SLOPE = range(
    0, 1200, 100
)


@dataclass(frozen=True, eq=False)
class Layers:
    """What is where in a window of the section; all (y, x).

    ``strength`` is how much stain and RNA a place holds, relative to its class; ``nuclei`` the share of a pixel that
    nuclei cover and ``chromatin`` how dark they are there.
    """

    tissue: NDArray[np.bool_]
    label: NDArray[np.intp]
    strength: Floats
    nuclei: Floats
    chromatin: Floats
    slopes: tuple[Floats, Floats]


@dataclass(frozen=True)
class Drawing:
    """A section drawn by rule; all that is needed to draw any part of it again."""

    config: ClassVar[DrawingConfig] = DrawingConfig()

    height: int
    width: int
    um_per_px: float
    n_noise: int
    mean_counts: float
    seed: int

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each gene, by name."""
        classes = {f"class{k}_{x}": "class" for k in range(len(CLASSES)) for x in "ab"}
        others = {f"{kind}_{x}": kind for kind in ("nuclei", "total", "gradient") for x in "ab"}
        return classes | others | {f"noise_{x}": "noise" for x in _letters(self.n_noise)}

    def layers(self, window: Window) -> Layers:
        """Draw the layers of a window."""
        y, x = self._middles(window)
        noise = GridNoise(self.seed, y, x)
        nuclei, chromatin = self._nuclei(window)
        tissue = self._tissue(noise)
        return Layers(
            tissue=tissue,
            label=self._label(noise),
            strength=np.clip(1 + 0.27 * noise.field(_STRENGTH, 60.0), 0.4, 1.6),
            nuclei=nuclei * tissue,
            chromatin=chromatin * tissue,
            slopes=self._slopes(y[:, None], x[None]),
        )

    def image(self, window: Window) -> NDArray[np.uint8]:
        """Draw the stained section in a window: (y, x, 3)."""
        layers = self.layers(window)
        haematoxylin, eosin = self._stain(layers, window)
        density = haematoxylin[..., None] * STAINS[0] + eosin[..., None] * STAINS[1]
        colour = GLASS * np.exp(-density)
        return np.asarray(np.clip(np.rint(colour + self._grain(window)), 0, 255), dtype=np.uint8)

    def rates(self, window: Window, genes: Sequence[str]) -> NDArray[np.float32]:
        """Expected counts per spot area of the genes in a window: (gene, y, x), zero outside tissue."""
        return self.rates_of(self.layers(window), genes)

    def rates_of(self, layers: Layers, genes: Sequence[str]) -> NDArray[np.float32]:
        """Expected counts per spot area of the genes given the layers: (gene, y, x)."""
        patterns = self._patterns()
        rates = np.empty((len(genes), *layers.tissue.shape), dtype=np.float32)
        for i, gene in enumerate(genes):
            rates[i] = self.mean_counts * patterns[gene](layers) * layers.tissue
        return rates

    def _patterns(self) -> dict[str, Callable[[Layers], Any]]:
        """Rate of each gene relative to ``mean_counts``."""
        patterns: dict[str, Callable[[Layers], Any]] = {
            "nuclei_a": lambda at: 0.2 + 4.0 * at.nuclei,
            "nuclei_b": lambda at: (0.2 + 4.0 * at.nuclei) * at.strength,
            "total_a": lambda at: _rna(at),
            "total_b": lambda at: 0.3 * _rna(at),
            "gradient_a": lambda at: 0.2 + 1.6 * at.slopes[0],
            "gradient_b": lambda at: 0.2 + 1.6 * at.slopes[1],
        }
        for k in range(len(CLASSES)):
            patterns[f"class{k}_a"] = partial(_in_class, k=k)
            patterns[f"class{k}_b"] = partial(_in_class_by_strength, k=k)
        return patterns | {f"noise_{x}": lambda _: 1.0 for x in _letters(self.n_noise)}

    @property
    def _size(self) -> tuple[float, float]:
        return self.height * self.um_per_px, self.width * self.um_per_px

    def _middles(self, window: Window) -> tuple[Floats, Floats]:
        """Middles of the rows and of the columns of a window in um."""
        y, x = (
            (np.arange(first, end) + 0.5) * self.um_per_px
            for first, end in ((window.y0, window.y1), (window.x0, window.x1))
        )
        return y, x

    def _random(self, stream: int, n: int) -> Floats:
        return uniform(hashed(self.seed, stream, np.arange(n)))

    def _tissue(self, noise: GridNoise | PointNoise) -> NDArray[np.bool_]:
        """Whether there is tissue: a wobbly disc that fills most of the image, with a wobbly hole."""
        (tall, wide), side = self._size, min(self._size)
        outline = (
            1
            - np.square((noise.y - tall / 2) / (0.43 * tall))
            - np.square((noise.x - wide / 2) / (0.43 * wide))
            + 0.15 * noise.field(_OUTLINE, side / 4)
            + 0.05 * noise.field(_OUTLINE + 1, side / 14)
        )
        turn, away = self._random(_HOLE, 2)
        distance = (0.12 + 0.1 * away) * side
        y = noise.y - (tall / 2 + distance * np.sin(2 * np.pi * turn))
        x = noise.x - (wide / 2 + distance * np.cos(2 * np.pi * turn))
        radius = 0.11 * side
        hole = 1 - (np.square(y) + np.square(x)) / radius**2 + 0.25 * noise.field(_HOLE + 1, side / 10)
        return np.asarray((outline > 0) & (hole < 0))

    def _label(self, noise: GridNoise | PointNoise) -> NDArray[np.intp]:
        """Class of each place: each has a home and wobbly borders, so that none is ever missing."""
        (tall, wide), side = self._size, min(self._size)
        turn = self._random(_HOME, 1)[0]
        scores = []
        for k in range(len(CLASSES)):
            angle = 2 * np.pi * (turn + k / len(CLASSES))
            y = (noise.y - tall * (0.5 + 0.27 * np.sin(angle))) / tall
            x = (noise.x - wide * (0.5 + 0.27 * np.cos(angle))) / wide
            wobble = noise.field(_CLASS + 2 * k, side / 6) + 0.35 * noise.field(_CLASS + 2 * k + 1, side / 20)
            scores.append(0.9 * wobble - 12.0 * (np.square(y) + np.square(x)))
        return np.asarray(np.argmax(np.stack(scores), axis=0))

    def _slopes(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Two ramps from 0 to 1 over the section, at a right angle; the image does not show them."""
        tall, wide = self._size
        angle = 2 * np.pi * self._random(_SLOPE, 1)[0]
        down, right = y / tall - 0.5, x / wide - 0.5
        first = down * np.sin(angle) + right * np.cos(angle)
        second = down * np.cos(angle) - right * np.sin(angle)
        return np.clip(0.5 + first, 0, 1), np.clip(0.5 + second, 0, 1)

    def _stain(self, layers: Layers, window: Window) -> tuple[Floats, Floats]:
        """Optical density of haematoxylin and eosin in a window; none on glass."""
        y, x = self._middles(window)
        noise = GridNoise(self.seed, y, x)
        haematoxylin = np.array([c.haematoxylin for c in CLASSES])[layers.label] * layers.strength
        eosin = np.array([c.eosin for c in CLASSES])[layers.label] * layers.strength
        eosin *= 1 + 0.12 * noise.field(_TEXTURE, 5.0)
        for k, texture in ((0, self._fibres), (3, self._membranes)):
            rows, columns = np.nonzero((layers.label == k) & layers.tissue)
            if len(rows):
                eosin[rows, columns] = texture(y[rows], x[columns], eosin[rows, columns])
        clumps = np.clip(1 + 0.18 * noise.field(_TEXTURE + 1, 1.6), 0.5, 1.5)
        haematoxylin = haematoxylin * (1 - 0.5 * layers.nuclei) + self.config.chromatin * layers.chromatin * clumps
        eosin *= 1 - 0.4 * layers.nuclei
        return np.maximum(haematoxylin, 0) * layers.tissue, np.maximum(eosin, 0) * layers.tissue

    def _fibres(self, y: Floats, x: Floats, eosin: Floats) -> Floats:
        """Wavy fibres of stroma."""
        angle = np.pi * self._random(_FIBRE, 1)[0]
        across = y * np.cos(angle) - x * np.sin(angle) + 14.0 * PointNoise(self.seed, y, x).field(_FIBRE + 1, 70.0)
        along = y * np.sin(angle) + x * np.cos(angle)
        fine = PointNoise(self.seed, across / 4.0, along / 45.0).field(_FIBRE + 2, 1.0)
        coarse = PointNoise(self.seed, across / 11.0, along / 120.0).field(_FIBRE + 3, 1.0)
        return np.asarray(eosin * np.clip(1 + 0.22 * fine + 0.25 * coarse, 0.3, 2.0))

    def _membranes(self, y: Floats, x: Floats, eosin: Floats) -> Floats:
        """Thin membranes around the empty vacuoles of fat: where the two nearest seeds are equally far."""
        row, column = (np.floor(at / self.config.vacuole_um).astype(np.int64) for at in (y, x))
        first = np.full(y.shape, np.inf)
        second = np.full(y.shape, np.inf)
        for down, right in product((-1, 0, 1), repeat=2):
            key = hashed(self.seed, _FAT, row + down, column + right)
            seed_y = (row + down + uniform(key)) * self.config.vacuole_um
            seed_x = (
                column + right + uniform(hashed(self.seed, _FAT + 1, row + down, column + right))
            ) * self.config.vacuole_um
            distance = np.sqrt(np.square(y - seed_y) + np.square(x - seed_x))
            second = np.minimum(second, np.maximum(first, distance))
            first = np.minimum(first, distance)
        thickness = max(4.0, 1.2 * self.um_per_px)
        return np.asarray(eosin * (1 + 5.5 * np.clip(1.2 - (second - first) / thickness, 0, 1)))

    def _nuclei(self, window: Window) -> tuple[Floats, Floats]:
        """Share of each pixel that nuclei cover, and their darkness there."""
        cover, dark = np.zeros(window.shape), np.zeros(window.shape)
        y, x, radius, elongation, angle, shade = self._nuclei_near(window)
        reach = int(np.ceil(max(c.radius * np.sqrt(c.elongation) for c in CLASSES) * 1.2 / self.um_per_px)) + 1
        patch = np.arange(-reach, reach + 1)
        for batch in range(0, len(y), self.config.batch):
            some = slice(batch, batch + self.config.batch)
            rows = np.floor(y[some] / self.um_per_px).astype(np.int64)[:, None, None] + patch[:, None]
            columns = np.floor(x[some] / self.um_per_px).astype(np.int64)[:, None, None] + patch
            rows, columns = np.broadcast_arrays(rows, columns)
            n, i, j = np.nonzero(
                (rows >= window.y0) & (rows < window.y1) & (columns >= window.x0) & (columns < window.x1)
            )
            rows, columns = rows[n, i, j], columns[n, i, j]
            n = n + batch
            share = self._covered(rows, columns, y[n], x[n], radius[n], elongation[n], angle[n])
            pixel = (rows - window.y0) * window.shape[1] + columns - window.x0
            np.maximum.at(cover.ravel(), pixel, share)
            np.maximum.at(dark.ravel(), pixel, share * shade[n])
        return cover, dark

    def _nuclei_near(self, window: Window) -> tuple[Floats, ...]:
        """Centre (y, x), radius, elongation, angle and darkness of the nuclei that may touch a window."""
        um, margin = self.um_per_px, 2
        rows, columns = (
            np.arange(
                int(first * um // self.config.lattice_um) - margin, int(end * um // self.config.lattice_um) + margin + 1
            )
            for first, end in ((window.y0, window.y1), (window.x0, window.x1))
        )
        row, column = (index.ravel() for index in np.meshgrid(rows, columns, indexing="ij"))
        u = [uniform(hashed(self.seed, _NUCLEUS + i, row, column)) for i in range(6)]
        y = (row + 0.5 + 0.8 * (u[0] - 0.5)) * self.config.lattice_um
        x = (column + 0.5 * (row % 2) + 0.5 + 0.8 * (u[1] - 0.5)) * self.config.lattice_um
        noise = PointNoise(self.seed, y, x)
        label = self._label(noise)
        kept = (u[2] < np.array([c.nuclei for c in CLASSES])[label]) & self._tissue(noise)
        radius = np.array([c.radius for c in CLASSES])[label] * (0.85 + 0.3 * u[3])
        elongation = np.array([c.elongation for c in CLASSES])[label]
        # the nuclei of stroma lie along its fibres, the others anyhow
        fibres = np.pi * self._random(_FIBRE, 1)[0] + 0.5 * (u[4] - 0.5)
        angle = np.where(label == 0, fibres, np.pi * u[4])
        shade = 0.75 + 0.5 * u[5]
        return tuple(values[kept] for values in (y, x, radius, elongation, angle, shade))

    def _covered(
        self,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        y: Floats,
        x: Floats,
        radius: Floats,
        elongation: Floats,
        angle: Floats,
    ) -> Floats:
        """Share of each pixel that the ellipse around (y, x) covers, by samples with soft edges."""
        n = int(np.clip(np.ceil(self.um_per_px), 1, self.config.subsamples))
        edge = max(self.um_per_px / n, 0.3)
        sin, cos = np.sin(angle), np.cos(angle)
        stretch = np.sqrt(elongation)
        total = np.zeros(rows.shape)
        for a, b in product((np.arange(n) + 0.5) / n, repeat=2):
            down, right = (rows + a) * self.um_per_px - y, (columns + b) * self.um_per_px - x
            along, across = (down * sin + right * cos) / stretch, (right * sin - down * cos) * stretch
            inside = radius - np.sqrt(np.square(along) + np.square(across))
            total += np.clip(0.5 + inside / edge, 0, 1)
        return total / n**2

    def _grain(self, window: Window) -> Floats:
        """Noise of the camera: (y, x, 3) in levels, triangular."""
        rows, columns = np.arange(window.y0, window.y1)[:, None], np.arange(window.x0, window.x1)[None]
        key = hashed(self.seed, _PIXEL, rows, columns)
        parts = [((key >> np.uint64(8 * i)) & np.uint64(255)).astype(np.float64) / 255 for i in range(6)]
        return np.stack([2.5 * (parts[2 * i] + parts[2 * i + 1] - 1) for i in range(3)], axis=-1)


def _rna(at: Layers) -> Floats:
    """RNA content of each place, about 1 on average."""
    return np.asarray(np.array([c.rna for c in CLASSES])[at.label] * at.strength)


def _in_class(at: Layers, k: int) -> Floats:
    return np.asarray(0.05 + 3.0 * (at.label == k))


def _in_class_by_strength(at: Layers, k: int) -> Floats:
    return np.asarray(0.05 + 3.0 * (at.label == k) * at.strength)


def _letters(n: int) -> list[str]:
    """Return a, b, ..., z, aa, ab, ..."""
    words = ("".join(word) for length in count(1) for word in product(ascii_lowercase, repeat=length))
    return list(islice(words, n))
