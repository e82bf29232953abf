from __future__ import annotations

import numpy as np
import pytest

from sphisto import pl


@pytest.fixture
def past(section):
    """Two epochs on the picture, four on picture and spots."""
    nan = np.nan
    history = {
        "epoch": np.arange(6),
        "phase": np.array(["image"] * 2 + ["joint"] * 4),
        "loss": np.arange(6.0),
        "image_loss": np.array([0.9, 0.7, 0.6, 0.5, 0.5, 0.4]),
        "spot_loss": np.array([nan, nan, 2.0, 1.8, 1.7, 1.6]),
        "held_out_loss": np.array([nan, nan, 2.1, 1.9, 1.9, 1.8]),
        "held_out_interpolated": np.array([nan, nan, 2.0, 2.0, 2.0, 2.0]),
        "learning_rate": np.array([1e-3, 2e-3, 2e-3, 1e-3, 5e-4, 1e-4]),
        "seconds": np.ones(6),
    }
    section.uns["projection"] = {"params": {}, "store": "a.zarr", "history": history}
    return section


def line(ax, label):
    [found] = [one for one in ax.lines if one.get_label() == label]
    return found.get_xydata()


def test_losses_and_rate_by_epoch(past):
    history = past.uns["projection"]["history"]
    image, spot, rate = pl.history(past)
    assert [ax.get_ylabel() for ax in (image, spot, rate)] == ["image loss", "spot loss", "learning rate"]
    np.testing.assert_array_equal(image.lines[0].get_xydata(), np.column_stack([np.arange(6), history["image_loss"]]))
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), history["learning_rate"])
    for label, name in {
        "spots learned from": "spot_loss",
        "spots held out": "held_out_loss",
        "held out, prior alone": "held_out_interpolated",
    }.items():
        np.testing.assert_array_equal(line(spot, label)[:, 1], history[name])
    assert [text.get_text() for text in spot.get_legend().get_texts()][1] == "spots held out"


def test_phases_are_told_apart(past):
    for ax in pl.history(past):
        [shade] = ax.patches
        assert shade.get_x() == -0.5
        assert shade.get_x() + shade.get_width() == 1.5
    phases = {text.get_text(): text.xy[0] for text in pl.history(past)[0].texts}
    assert phases == {"image": 0.5, "image and spots": 3.5}


def test_no_held_out_spots_no_line(past):
    history = past.uns["projection"]["history"]
    history["held_out_loss"] = history["held_out_interpolated"] = np.full(6, np.nan)
    _, spot, _ = pl.history(past)
    assert [one.get_label() for one in spot.lines] == ["spots learned from"]


def test_store_tells_the_same(fitted, store):
    for there, here in zip(pl.history(store), pl.history(fitted), strict=True):
        np.testing.assert_array_equal(there.lines[0].get_xydata(), here.lines[0].get_xydata())


def test_given_axes_and_file(past, tmp_path):
    from matplotlib import pyplot as plt

    _, given = plt.subplots(1, 3)
    assert pl.history(past, ax=given, save=tmp_path / "h.png") == list(given)
    assert (tmp_path / "h.png").exists()
    with pytest.raises(ValueError, match="expected 3, one for each panel: image loss, spot loss, learning rate"):
        pl.history(past, ax=given[:2])


def test_nothing_fitted(section):
    with pytest.raises(KeyError, match=r"in .uns\['projection'\]. Run `sphisto.tl.fit_projection` first, or correct"):
        pl.history(section)
