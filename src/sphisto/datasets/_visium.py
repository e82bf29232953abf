"""Public 10x Visium sections, fetched by name."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING

from sphisto._progress import shows_progress
from sphisto._settings import logger, settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

_BASE = "https://cf.10xgenomics.com/samples/spatial-exp"
_COUNTS, _SPATIAL = "filtered_feature_bc_matrix.h5", "spatial.tar.gz"


@dataclass(frozen=True)
class Section:
    """A public section: the Space Ranger version that made it and the sha256 of its two files.

    A hash of None means that it is not known: the file is then checked by opening it only.
    """

    spaceranger: str
    counts: str | None = None
    spatial: str | None = None

    def files(self, name: str) -> dict[str, str | None]:
        """Hash of each file, by file name."""
        return {f"{name}_{_COUNTS}": self.counts, f"{name}_{_SPATIAL}": self.spatial}


# Sections stained with H&E. Hashes as squidpy's registry of the same files gives them.
SECTIONS: Mapping[str, Section] = MappingProxyType(
    {
        "V1_Adult_Mouse_Brain": Section(
            "1.1.0",
            "eb78379e02dcf48036abf05b67233e73ecb0d880787feb82f76ff16f6ce01eb3",
            "46d6b05ba740f232d6bf4b27b9a8846815851e000985fb878f1364bab04e5bd4",
        ),
        "V1_Breast_Cancer_Block_A_Section_1": Section(
            "1.1.0",
            "b3cbb6ead60afad848ebcc07a34835613d9d2d79e416ad8300b210d9de584b65",
            "415530a9d31172f63fd358d5d1cefb0798698ef9c0e614f52825894cd45c61bf",
        ),
        "V1_Breast_Cancer_Block_A_Section_2": Section(
            "1.1.0",
            "e325b4e53f0036a71904cea6b7cd65945f10c25cf2ef8e2f681de9ac1ff7766c",
            "15fcf837478bcba847b50e393b016f95f02067ea930e81f96b103f2a14bf6db0",
        ),
        "V1_Human_Heart": Section(
            "1.1.0",
            "a7274ea2ff2717693b200e614c288c174f02925b6d82c98221871a08e52d415b",
            "f2033b6ec4c13dcaf75386d4de3e86cb3357e15fe0eaa2be7037c3d3f0194188",
        ),
        "V1_Human_Lymph_Node": Section(
            "1.1.0",
            "86fd533eb907450e7125b9820183a0ca73776eeafcc5eddae5695b6aabfd9139",
            "812808883366ff9623dc8354847a7211b0d922b2bfc4c9359d6e12e993ea6a73",
        ),
        "V1_Mouse_Brain_Sagittal_Anterior": Section(
            "1.1.0",
            "56078d8d6fe6c13de248fdb1c518b691cdef78fb00021b659786b4a47c6656d5",
            "5f41a803e2bd69fa4dfca6abc8fa2d4e0d76aeb6c72d7038a5fdcf9cc50a36f8",
        ),
        "V1_Mouse_Brain_Sagittal_Anterior_Section_2": Section(
            "1.1.0",
            "6ffcca5979b722f7f112202a9a8273cdad60a2b40ba4f651d465fbba577b5a5c",
            "0fa49dd44835e0a77c4f24653abe6092c0a164c594696540ee3d9e2eee2e34a2",
        ),
        "V1_Mouse_Brain_Sagittal_Posterior": Section(
            "1.1.0",
            "df962209143860488bd679ff7a1b3bb14985208d0929fb814934ba7571c488b6",
            "b878d7eaca487ffc17224a870f86599abf9d45a99033c1ef65661ff119cef0d5",
        ),
        "V1_Mouse_Brain_Sagittal_Posterior_Section_2": Section(
            "1.1.0",
            "7e4dbea6a2037b3478719d121eec33a56b96d0c904daade9c8cbeb428f415bc4",
            "e8be08bf867387a6209c4f37ede4266d1305dfb038c77411b213a28fc2d79107",
        ),
        "V1_Mouse_Kidney": Section(
            "1.1.0",
            "5e0b1d1c51c4e8759cd623d212573e1c28daf95d66e0d25a8e4488f6bed3831a",
            "91570548eae3d2bcf738af45e9dc463547a01669841db43ff20afb41b7cc0539",
        ),
        "Visium_FFPE_Human_Breast_Cancer": Section(
            "1.3.0",
            "64321f603f7200b0bedffbe353c04dde72bbe7c7be7390e503d955aa9b2584c5",
            "2937fcc44b7adee70f162a9e09857410dcf22eed89a3e3187950dfc1574fea14",
        ),
        "Visium_FFPE_Human_Normal_Prostate": Section(
            "1.3.0",
            "a62e3f01b30eb0cbf524dbaafb52c086bc2710ff7461284b0b3778ca0e5a355c",
            "cd9f2616ed155b8dcdd68d0780eda5dd24f1d440b02cfd8f5c5bd1bb6481000e",
        ),
        "Visium_FFPE_Human_Prostate_Acinar_Cell_Carcinoma": Section(
            "1.3.0",
            "61fa385e2f5126a3085aea6836e9bfcae8e0d90face655156dc872e7ea450d6a",
            "3929961344a03075ce8012186952c1df7fd084e7cac7f1bccb70744a5eaf9569",
        ),
        "Visium_FFPE_Human_Prostate_Cancer": Section(
            "1.3.0",
            "08fb4185da5ac375ab3f4782744752bf3aa23fedbe93d0882aaa9fa0afde9abd",
            "3eec0e63de718a51afd1d11dea3a1db926009399937f93384d14c81f52e37202",
        ),
        "Visium_FFPE_Mouse_Brain": Section(
            "1.3.0",
            "f5a5d0fafeab6259ded1c4883b255ef57557b81f32774513594e23a49e8352ce",
            "e4e1b845fd078946c6f8b61bd8d1927c0ce2395c3730f602cd80ef439d4a9d73",
        ),
        "Visium_FFPE_Mouse_Kidney": Section(
            "1.3.0",
            "b7c3a904971ece636c79cda1dd49d7f7f183080698516477f96182b46597f977",
            "cd55f1d7c5665d7f37ea83ab58729149e93e762f4ed69f7f9bde747ec4404c64",
        ),
        "CytAssist_FFPE_Human_Breast_Cancer": Section("2.0.0"),
    }
)


def visium(name: str, *, path: str | Path | None = None) -> AnnData:
    """Fetch a public 10x Visium section, once, and read it.

    The counts and the archive of positions and images (some tens of MB, without the full-resolution image) come
    from 10x Genomics and are kept. Their sha256 is checked where it is known; it is not for
    ``CytAssist_FFPE_Human_Breast_Cancer``, whose files are checked by opening them only.

    Parameters
    ----------
    name
        Name that 10x Genomics gave the section; an unknown one raises with the list of names. All are H&E.
    path
        Folder for downloads, a folder for each section in it; by default ``visium`` in
        ``sphisto.settings.cachedir``.

    Returns
    -------
    AnnData (spots x genes) as :func:`sphisto.io.read_visium` gives it, with ``name`` as library id.

    Writes
    ------
    ``path/name``: the two files and the unpacked ``spatial``. Later calls read these, without a network.

    Raises
    ------
    ValueError
        If there is no such section, or a fetched file is not what it should be.
    ConnectionError
        If a file cannot be fetched; the message says how to put it there manually.

    Examples
    --------
    >>> import sphisto
    >>> adata = sphisto.datasets.visium("V1_Adult_Mouse_Brain")  # doctest: +SKIP
    """
    from sphisto.io.spaceranger import read_visium

    if name not in SECTIONS:
        msg = f"There is no section {name!r}. There are: {', '.join(SECTIONS)}."
        raise ValueError(msg)
    section = SECTIONS[name]
    folder = _folder(path) / name
    for file, sha256 in section.files(name).items():
        _fetch(f"{_BASE}/{section.spaceranger}/{name}/{file}", sha256, folder)
    if not (folder / "spatial").is_dir():
        _unpack(folder / f"{name}_{_SPATIAL}", folder / "spatial")
    return read_visium(folder, library_id=name)


def _folder(path: str | Path | None) -> Path:
    return Path(path) if path is not None else settings.cachedir / "visium"


def _fetch(url: str, sha256: str | None, folder: Path) -> None:
    """Fetch a file into a folder, unless it is there already."""
    import pooch

    file = url.rsplit("/", 1)[-1]
    try:
        pooch.retrieve(
            url, known_hash=sha256 and f"sha256:{sha256}", fname=file, path=folder, progressbar=shows_progress()
        )
    except OSError as error:
        msg = (
            f"Could not fetch {url} ({error}). Without a network, fetch it elsewhere and put it at "
            f"{str(folder / file)!r}, then call this again; a Space Ranger folder that you have is read by "
            "`sphisto.io.read_visium`."
        )
        raise ConnectionError(msg) from error
    except ValueError as error:
        msg = (
            f"What came from {url} is not the known file: its sha256 is not {sha256} ({error}). Try again; if it stays "
            "so, the file at its source has changed."
        )
        raise ValueError(msg) from error


def _unpack(archive: Path, target: Path) -> None:
    """Unpack the files of ``spatial`` next to their archive; a broken archive leaves nothing behind."""
    import shutil

    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                place = PurePosixPath(member.name)
                # only plain files of one folder are taken, whatever else an archive may hold
                if member.isfile() and place.parent.name == "spatial" and (content := tar.extractfile(member)):
                    (part / place.name).write_bytes(content.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        shutil.rmtree(part)
        msg = f"{str(archive)!r} cannot be unpacked ({error}). Delete it and call this again to fetch it."
        raise ValueError(msg) from error
    part.rename(target)
    logger.info("Unpacked %d files into %s.", len(list(target.iterdir())), target)
