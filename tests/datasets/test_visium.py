from __future__ import annotations

import hashlib
import io
import json
import re
import socket
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

import h5py
import numpy as np
import pytest
from PIL import Image

from sphisto import datasets
from sphisto.datasets import _visium

NAME = "Tiny_Section"
COUNTS = np.array([[1, 0, 2], [0, 3, 0]])
BARCODES = ["AAAA-1", "CCCC-1"]


def write_counts(path):
    columns, rows = np.nonzero(COUNTS)
    with h5py.File(path, "w") as file:
        file.attrs["library_ids"] = np.array([b"another name"])
        matrix = file.create_group("matrix")
        matrix["barcodes"] = np.array(BARCODES, dtype="S")
        matrix["data"] = COUNTS[columns, rows].astype(np.int32)
        matrix["indices"] = rows.astype(np.int64)
        matrix["indptr"] = np.array([0, 2, 3])
        matrix["shape"] = np.array([3, 2], dtype=np.int32)
        features = matrix.create_group("features")
        for key, values in {"id": ["G1", "G2", "G3"], "name": ["A", "B", "C"]}.items():
            features[key] = np.array(values, dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * 3, dtype="S")
        features["genome"] = np.array(["tiny"] * 3, dtype="S")


def write_archive(path, extra=()):
    png = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), 200, dtype=np.uint8)).save(png, "png")
    files = {
        "spatial/tissue_positions_list.csv": b"AAAA-1,1,0,0,10,20\nCCCC-1,1,0,2,10,40\n",
        "spatial/scalefactors_json.json": json.dumps({"tissue_hires_scalef": 0.1}).encode(),
        "spatial/tissue_hires_image.png": png.getvalue(),
        **dict.fromkeys(extra, b"no"),
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A server on this machine that offers one section, registered with its hashes; calling it ends it."""
    folder = tmp_path / "source" / "9.9.9" / NAME
    folder.mkdir(parents=True)
    write_counts(folder / f"{NAME}_filtered_feature_bc_matrix.h5")
    write_archive(folder / f"{NAME}_spatial.tar.gz")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tmp_path / "source"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_visium, "_BASE", f"http://127.0.0.1:{server.server_port}")
    register(monkeypatch, folder)

    def end():
        if thread.is_alive():
            server.shutdown()
            thread.join()
            server.server_close()

    yield folder, end
    end()


def register(monkeypatch, folder, **changed):
    hashes = {
        key: hashlib.sha256((folder / f"{NAME}_{file}").read_bytes()).hexdigest()
        for key, file in {"counts": _visium._COUNTS, "spatial": _visium._SPATIAL}.items()
    }
    sections = {NAME: _visium.Section("9.9.9", **(hashes | changed))}
    monkeypatch.setattr(_visium, "SECTIONS", MappingProxyType(sections))


def test_fetches_unpacks_and_reads(source, tmp_path):
    adata = datasets.visium(NAME, path=tmp_path / "data")
    assert (adata.X.toarray() == COUNTS).all()
    assert adata.obsm["spatial"].tolist() == [[20, 10], [40, 10]]
    assert list(adata.uns["spatial"]) == [NAME]
    assert adata.uns["spatial"][NAME]["images"]["hires"].shape == (4, 5, 3)


def test_a_second_call_needs_no_network(source, tmp_path):
    _, end = source
    first = datasets.visium(NAME, path=tmp_path / "data")
    end()
    again = datasets.visium(NAME, path=tmp_path / "data")
    assert (first.X != again.X).nnz == 0


def test_the_default_folder_is_the_cache(source, tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    datasets.visium(NAME)
    assert (tmp_path / "cache" / "sphisto" / "visium" / NAME / "spatial" / "scalefactors_json.json").is_file()


def test_a_file_with_another_hash_is_refused(source, tmp_path, monkeypatch):
    folder, _ = source
    register(monkeypatch, folder, counts="0" * 64)
    with pytest.raises(ValueError, match=r"is not the known file: its sha256 is not 0{64}"):
        datasets.visium(NAME, path=tmp_path / "data")
    assert not (tmp_path / "data" / NAME / f"{NAME}_filtered_feature_bc_matrix.h5").exists()


def test_a_broken_archive_without_a_hash_is_refused(source, tmp_path, monkeypatch):
    folder, _ = source
    archive = folder / f"{NAME}_spatial.tar.gz"
    archive.write_bytes(archive.read_bytes()[:200])
    register(monkeypatch, folder, spatial=None)
    with pytest.raises(ValueError, match=r"Tiny_Section_spatial.tar.gz' cannot be unpacked .* Delete it"):
        datasets.visium(NAME, path=tmp_path / "data")
    left = sorted(p.name for p in (tmp_path / "data" / NAME).iterdir())
    assert left == [f"{NAME}_filtered_feature_bc_matrix.h5", f"{NAME}_spatial.tar.gz"]


def test_archives_cannot_write_elsewhere(source, tmp_path, monkeypatch):
    folder, _ = source
    write_archive(folder / f"{NAME}_spatial.tar.gz", extra=("../evil", "/evil", "other/evil", "../spatial/kept.txt"))
    register(monkeypatch, folder)
    datasets.visium(NAME, path=tmp_path / "data")
    assert not list(tmp_path.rglob("evil"))
    assert (tmp_path / "data" / NAME / "spatial" / "kept.txt").is_file()


def test_without_a_network_the_message_says_how_to_go_on(tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_visium, "_BASE", f"http://127.0.0.1:{port}")
    file = "V1_Human_Heart_filtered_feature_bc_matrix.h5"
    place = re.escape(str(tmp_path / "V1_Human_Heart" / file))
    with pytest.raises(
        ConnectionError,
        match=rf"(?s)Could not fetch http://127.0.0.1:{port}/1.1.0/V1_Human_Heart/{file} .*put it at '{place}'"
        r".*`sphisto.io.read_visium`",
    ):
        datasets.visium("V1_Human_Heart", path=tmp_path)


def test_unknown_names_raise_with_the_known_ones():
    with pytest.raises(ValueError, match=r"There is no section 'heart'. There are: V1_Adult_Mouse_Brain, V1_Breast"):
        datasets.visium("heart")


def test_the_registry_is_well_formed():
    hashes = [h for s in _visium.SECTIONS.values() for h in (s.counts, s.spatial) if h is not None]
    assert all(re.fullmatch("[0-9a-f]{64}", h) for h in hashes)
    assert len(set(hashes)) == len(hashes)
    assert all(re.fullmatch(r"\d\.\d\.\d", s.spaceranger) for s in _visium.SECTIONS.values())
    unknown = [name for name, s in _visium.SECTIONS.items() if None in (s.counts, s.spatial)]
    assert unknown == ["CytAssist_FFPE_Human_Breast_Cancer"]  # the docstring names it
