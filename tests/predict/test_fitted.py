from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import sphisto as sp
from sphisto.genes.model import GeneModel
from sphisto.predict.fitted import load_fitted, save_fitted


def test_save_and_load_keep_everything(fitted, tmp_path):
    one = sp.tl.load(fitted)
    save_fitted(one, tmp_path / "m.pt")
    other = load_fitted(tmp_path / "m.pt")
    for name in ("network", "um_per_px", "spot", "is_counts", "genes", "params"):
        assert getattr(one, name) == getattr(other, name)
    assert one.model.genes == other.model.genes
    assert one.model.n_contrasts == other.model.n_contrasts
    np.testing.assert_array_equal(one.model.loadings, other.model.loadings)
    for name, values in one.history.items():
        np.testing.assert_array_equal(values, other.history[name])
    for name, weights in one.module().state_dict().items():
        torch.testing.assert_close(weights, other.module().state_dict()[name])
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


class Hostile:
    def __reduce__(self):
        import pathlib

        return pathlib.Path.touch, (pathlib.Path("executed"),)


def test_a_strangers_file_executes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "weights": Hostile()}, "bad.pt")
    with pytest.raises(ValueError, match=r"bad.pt is no fitted projection, is damaged, or holds more than tensors"):
        load_fitted(tmp_path / "bad.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04broken"])
def test_damaged_files_are_said(tmp_path, content):
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(ValueError, match="is no fitted projection, is damaged"):
        load_fitted(tmp_path / "m.pt")


def test_a_byte_that_is_another_is_refused_or_makes_no_difference(fitted, tmp_path, rng):
    """PyTorch reads a loading of 600 in place of 0.002 without a word."""
    one, path = sp.tl.load(fitted), tmp_path / "m.pt"
    save_fitted(one, path)
    content, refused = path.read_bytes(), 0
    at = [content.find(one.model.loadings.tobytes()) + 3, *rng.choice(len(content), 40, replace=False)]
    for number, place in enumerate(at):
        flipped = bytearray(content)
        flipped[place] ^= 0x7F
        path.write_bytes(flipped)
        try:
            other = load_fitted(path)
        except ValueError as error:
            refused += "damaged" in str(error)
        else:  # between the parts
            assert number > 0
            np.testing.assert_array_equal(one.model.loadings, other.model.loadings)
            for name, weights in one.weights.items():
                assert torch.equal(weights, other.weights[name])
    assert refused > 20


def test_models_that_lack_something_are_said(fitted, tmp_path):
    save_fitted(sp.tl.load(fitted), tmp_path / "m.pt")
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    del content["skill"]
    torch.save(content, tmp_path / "without.pt")
    with pytest.raises(ValueError, match=r"without.pt is damaged or was changed: KeyError\('skill'\)"):
        load_fitted(tmp_path / "without.pt")
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    content["weights"].popitem()
    torch.save(content, tmp_path / "less.pt")
    with pytest.raises(ValueError, match=r"weights are not those of the network 'unet' (?s:.*)Missing key"):
        load_fitted(tmp_path / "less.pt").module()


def test_other_formats_and_missing_files_are_said(tmp_path):
    torch.save({"format": 99}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match="has format 99; this version of sphisto reads formats 2 to 4"):
        load_fitted(tmp_path / "m.pt")
    with pytest.raises(FileNotFoundError, match="Found no file"):
        load_fitted(tmp_path / "nothing.pt")


def test_contrasts_without_signs_are_still_contrasts(fitted, tmp_path):
    """A panel of few genes may hold only those that a contrast adds to; files of before are read by their signs."""
    one = sp.tl.load(fitted)
    panel = np.array([[0.5, 0.2, 0.3], [0.5, 0.8, 0.1]], dtype=np.float32)
    save_fitted(replace(one, model=GeneModel(("A", "B"), panel, 1)), tmp_path / "m.pt")
    assert load_fitted(tmp_path / "m.pt").model.names == ["factor0", "factor1", "contrast0"]
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    assert content["format"] == 4
    torch.save(content | {"n_contrasts": 4}, tmp_path / "wrong.pt")
    with pytest.raises(ValueError, match=r"wrong.pt is damaged or was changed: .*Found 4 contrasts among 3 factors"):
        load_fitted(tmp_path / "wrong.pt")
    del content["n_contrasts"]
    content["loadings"][1, 2] = -0.1
    torch.save(content, tmp_path / "old.pt")
    assert load_fitted(tmp_path / "old.pt").model.n_contrasts == 1


def test_a_model_shows_what_it_is(fitted):
    one = sp.tl.load(fitted)
    gate, skill = one.params["gate"], one.skill.pearson
    shown = repr(replace(one, genes=("A<b>", *one.genes)))
    for fact in (
        "network 'unet'",
        f"genes     {len(one.model.genes)}, written as rasters: A<b>, {one.genes[0]}",
        f"{one.model.n_factors - one.model.n_contrasts} factors, {one.model.n_contrasts} contrasts",
        "discs of 55 um",
        f"{one.um_per_px:.4g} um per px",
        f"{len(one.history['epoch'])} of 4 epochs, seed 0",
        "0: held-out spots do not show" if gate == 0 else f"{gate:.0%} of what it adds",
        f"median Pearson {np.nanmedian(skill):.2f} of {np.isfinite(skill).sum()} genes",
        "features  texture",
        f"fitted by sphisto {sp.__version__}, model format 4",
    ):
        assert fact in shown
    assert len(shown.splitlines()) == 11
    page = replace(one, genes=("A<b>",))._repr_html_()
    assert "A&lt;b&gt;" in page
    assert "<b>" not in page


def test_the_gate_is_told_in_words(fitted):
    one = sp.tl.load(fitted)
    for gate, words in (
        (0, "the rasters are the co-kriging of the spots"),
        (0.5, "50% of what it adds to the co-kriging is used"),
    ):
        assert words in repr(replace(one, params={**one.params, "gate": gate}))
    without = {name: value for name, value in one.params.items() if name != "gate"}
    assert "gate      none" in repr(replace(one, params=without))


def test_a_model_keeps_the_version_that_fitted_it(fitted, tmp_path):
    save_fitted(replace(sp.tl.load(fitted), version="0.0.7"), tmp_path / "m.pt")
    assert "fitted by sphisto 0.0.7" in repr(load_fitted(tmp_path / "m.pt"))
