"""Install a wheel into an empty environment and run the README's example there, away from the checkout.

Usage, with the Python that the environment is for::

    python3 -m build
    python3 tests/installed.py dist/sphisto-*.whl --constraint constraints-lowest.txt

What follows the wheel goes to ``pip install``. The environment is a temporary one, or the folder that ``--environment``
names, which is made anew. Needs the standard library, a network and some gigabytes; pytest does not collect it, but
``test_distribution.py`` runs the example with the sphisto of the checkout.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# The folder that the README reads, drawn: run in the environment, so that it imports what was installed
SECTION = """
import json
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

import sphisto as sp

adata = sp.datasets.toy(96, 112, pitch_um=24, n_noise=210)  # more than the 200 genes that pp.qc asks of a spot
genes = adata.var_names.to_numpy().astype(object)
genes[:2] = "Prox1", "Mbp"
drawn = adata.uns["spatial"]["toy"]
counts = adata.X.tocsr()
spatial = Path("my_section/spatial")
spatial.mkdir(parents=True)
with h5py.File(spatial.parent / "filtered_feature_bc_matrix.h5", "w") as file:
    matrix = file.create_group("matrix")
    matrix["barcodes"] = adata.obs_names.to_numpy().astype("S")
    matrix["data"], matrix["indices"], matrix["indptr"] = counts.data.astype(int), counts.indices, counts.indptr
    matrix["shape"] = np.array(counts.shape[::-1])
    for name in ("id", "name"):
        matrix["features/" + name] = genes.astype("S")
    matrix["features/feature_type"] = np.array(["Gene Expression"] * len(genes), dtype="S")
    matrix["features/genome"] = np.array(["drawn"] * len(genes), dtype="S")
positions = adata.obs[["in_tissue", "array_row", "array_col"]].copy()
positions["pxl_row_in_fullres"], positions["pxl_col_in_fullres"] = adata.obsm["spatial"].T[::-1]
positions.to_csv(spatial / "tissue_positions.csv", index_label="barcode")
(spatial / "scalefactors_json.json").write_text(json.dumps(drawn["scalefactors"]))
Image.fromarray(drawn["images"]["hires"]).save(spatial / "tissue_hires_image.png")
"""

# What the example must have left, after it in the same process
OUTCOME = """
import numpy as np

assert raster.dims == ("gene", "y", "x"), raster.dims
assert raster.gene.values.tolist() == ["Prox1", "Mbp"], raster.gene
inside = np.isfinite(raster.values)
assert (raster.values[inside] >= 0).all() and raster.values[inside].mean() > 0.1  # nan outside tissue
print(f"sphisto {sp.__version__} of {sp.__file__}: {dict(raster.sizes)}, mean {raster.values[inside].mean():.3g}")
"""


def example() -> str:
    """Return the Python code under *Use it* in the README, with a training of one short epoch."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    short = "config=sp.config.FitConfig(train=sp.config.TrainConfig(max_epochs=1, least_batches=2))"
    shorter, n = re.subn(r"(tl\.fit_projection\(.*)\)", rf"\1, {short})", code)
    if n != 1:
        sys.exit(f"installed.py: expected one fit on one line in the README's example, found {n}:\n{code}")
    return shorter


def run_example(python: str | Path, folder: Path, *options: str) -> str:
    """Draw the section that the README reads in a folder, run the example there and return what its check printed."""
    environment = os.environ | {"MPLBACKEND": "agg", "PYTHONIOENCODING": "utf-8"}
    for code in (SECTION, example() + OUTCOME):
        # -P: nothing is imported from the folder; standard error goes to the terminal, for whoever waits
        words = [str(python), "-P", *options, "-c", code]
        done = subprocess.run(words, cwd=folder, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    return done.stdout.splitlines()[-1]


def make(environment: Path, wheel: Path, options: list[str]) -> Path:
    """Make an empty environment, install the wheel into it and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(wheel), *options], check=True)
    subprocess.run([str(python), "-m", "pip", "check"], check=True)
    return python


def main(arguments: list[str]) -> None:
    """Install, run the example, ask the command line; say what ran."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--environment", type=Path, help="where to make it; a temporary folder by default")
    known, options = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        python = make((known.environment or folder / "environment").resolve(), known.wheel.resolve(), options)
        said = run_example(python, folder, "-I")  # -I: no PYTHONPATH and no packages of the user
        here = [str(python), "-I", "-m", "sphisto"]
        for words in (["--version"], ["check", "my_section"], ["info", "my_section.zarr"]):
            subprocess.run([*here, *words], cwd=folder, check=True)
    if f" of {python.parents[1]}" not in said:
        sys.exit(f"installed.py: another sphisto than the one installed in {python.parents[1]} ran: {said}")
    print(said)


if __name__ == "__main__":
    main(sys.argv[1:])
