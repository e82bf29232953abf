from __future__ import annotations

import inspect

import numpy as np
import pytest
from xarray import DataArray

from sphisto import pl
from sphisto.pl import _frame


def raster(height: int, width: int, *, step: float = 4.0, um_per_px: float = 2.0) -> DataArray:
    """Values 0, 1, 2, ...; pixels of ``step`` full-resolution px and ``um_per_px`` um."""
    return DataArray(
        np.arange(height * width, dtype=np.float32).reshape(height, width),
        dims=["y", "x"],
        coords={"y": (np.arange(height) + 0.5) * step, "x": (np.arange(width) + 3.5) * step},
        attrs={"um_per_px": um_per_px},
    )


# ---- places


def test_extent_is_that_of_the_pixels_not_of_their_centres():
    assert _frame.extent_of(raster(5, 7)) == (12, 40, 20, 0)


def test_a_single_pixel_has_the_size_of_its_other_side():
    assert _frame.extent_of(raster(1, 7)) == (12, 40, 4, 0)


def test_um_per_fullres_px():
    assert _frame.fullres_um_per_px(raster(5, 7)) == pytest.approx(0.5)


def test_known_extent_leaves_out_what_is_unknown_in_every_channel():
    one = raster(5, 7)
    one[:, :2] = np.nan
    one[4, :] = np.nan
    assert _frame.known_extent(one) == (20, 40, 16, 0)
    assert _frame.known_extent(one.where(one < 0)) == _frame.extent_of(one)


def test_window_is_the_box_or_what_is_known_with_a_margin_within_the_whole():
    whole = (0.0, 1000.0, 800.0, 0.0)
    assert _frame.window_of((10, 20, 30, 60), whole) == (10, 30, 60, 20)
    assert _frame.window_of(None, (100, 500, 300, 10), whole) == (80, 520, 320, 0)
    with pytest.raises(ValueError, match=r"bbox=\(30.0, 20.0, 10.0, 60.0\); expected \(x_min, y_min"):
        _frame.window_of((30, 20, 10, 60), whole)


# ---- scale bar


@pytest.mark.parametrize(
    ("longest", "length"), [(1, 1), (1.9, 1), (2.1, 2), (9.99, 5), (50, 50), (499, 200), (0.3, 0.2)]
)
def test_round_length(longest, length):
    assert _frame.round_length(longest) == pytest.approx(length)


@pytest.mark.parametrize("um_per_px", [0.23, 0.5, 4.3])
def test_scale_bar_measures_what_it_says(um_per_px):
    [ax] = _frame.panels(None, ["map"], size=(3, 3))
    _frame.dress(ax, "map", (100.0, 2100.0, 1500.0, 0.0), um_per_px)
    [bar] = [line for line in ax.lines if line.get_gid() == "scale bar"]
    [label] = [text for text in ax.texts if text.get_gid() == "scale bar"]
    number, unit = label.get_text().split()
    said = float(number) * {"mm": 1000, "µm": 1}[unit]
    assert np.ptp(bar.get_xdata()) * um_per_px == pytest.approx(said)
    assert np.ptp(bar.get_xdata()) < 0.26 * 2000


def test_scale_bar_lies_below_the_map_not_on_it():
    [ax] = _frame.panels(None, ["map"], size=(3, 3))
    _frame.dress(ax, "map", (0.0, 100.0, 100.0, 0.0), 1.0)
    ax.figure.draw_without_rendering()
    [bar] = ax.lines
    assert bar.get_window_extent().y1 < ax.get_window_extent().y0
    assert ax.get_xlim() == (0, 100)
    assert ax.get_ylim() == (100, 0)  # y down
    assert ax.get_aspect() == 1


# ---- colours


def test_limits_are_numbers_or_percentiles_without_nan():
    values = np.append(np.arange(101.0), np.nan)
    assert _frame.limits(values, 0, "p99") == (0, 99)
    assert _frame.limits(values, "p10", 7.5 * 4) == (10, 30)


def test_nothing_but_zeros_leaves_one_count_of_room():
    assert _frame.limits(np.zeros(5), 0, "p99.5") == (0, 1)
    assert _frame.limits(np.full(5, np.nan), 0, "p99.5") == (0, 1)


@pytest.mark.parametrize(
    ("vmin", "vmax", "message"),
    [
        (0, "99%", r"Found vmax='99%'; expected a number, or a percentile from 'p0' to 'p100'"),
        ("p101", 3, r"Found vmin='p101'"),
        (5, 3, r"from vmin=5 to vmax=3; expected vmax to be larger"),
    ],
)
def test_limits_that_cannot_be_read(vmin, vmax, message):
    with pytest.raises(ValueError, match=message):
        _frame.limits(np.arange(10.0), vmin, vmax)


@pytest.mark.parametrize(
    ("clim", "extend"), [((0, 34), "neither"), ((0, 20), "max"), ((5, 40), "min"), ((5, 20), "both")]
)
def test_colour_bar_points_to_what_it_does_not_hold(clim, extend):
    [ax] = _frame.panels(None, ["map"], size=(3, 3))
    image = _frame.draw_raster(ax, raster(5, 7), cmap="viridis", clim=clim)
    _frame.colour_bar(ax, image, raster(5, 7).values, "counts per spot area")
    assert image.colorbar.extend == extend
    assert image.colorbar.ax.get_ylabel() == "counts per spot area"


def test_colour_bar_is_as_high_as_the_map():
    [ax] = _frame.panels(None, ["map"], size=(3, 5))
    image = _frame.draw_raster(ax, raster(5, 7), cmap="viridis", clim=(0, 34))
    _frame.colour_bar(ax, image, raster(5, 7).values, "unit")
    _frame.dress(ax, "map", _frame.extent_of(raster(5, 7)), 1)
    ax.figure.draw_without_rendering()
    bar, shown = image.colorbar.ax.get_window_extent(), ax.get_window_extent()
    assert (bar.y0, bar.y1) == pytest.approx((shown.y0, shown.y1), abs=1)


# ---- tissue


def test_nan_is_transparent_and_the_tissue_has_an_outline():
    one = raster(20, 20)
    one[:, :10] = np.nan
    [ax] = _frame.panels(None, ["map"], size=(3, 3))
    image = _frame.draw_raster(ax, one, cmap="viridis", clim=(0, 400))
    assert image.get_array().mask.tolist() == np.isnan(one.values).tolist()
    assert image.to_rgba(image.get_array())[0, 0, 3] == 0
    [outline] = ax.collections
    [path] = outline.get_paths()
    # between the last unknown and the first known centre: 3.5 and 4.5 px of 4 further than the tenth pixel
    assert np.unique(path.vertices[:, 0]) == pytest.approx((10 + 3) * 4)


def test_no_outline_where_all_or_nothing_is_known():
    [ax] = _frame.panels(None, ["map"], size=(3, 3))
    _frame.draw_raster(ax, raster(20, 20), cmap="viridis", clim=(0, 400))
    _frame.draw_raster(ax, raster(20, 20) * np.nan, cmap="viridis", clim=(0, 400))
    assert len(ax.collections) == 0


# ---- axes


def test_panels_of_a_new_figure():
    axes = _frame.panels(None, list("abcde"), ncols=3, size=(2, 2))
    assert len(axes) == len(axes[0].figure.axes) == 5
    assert axes[3].get_subplotspec().rowspan.start == 1


def test_given_axes_are_used_in_any_shape():
    from matplotlib import pyplot as plt

    _, grid = plt.subplots(2, 2)
    assert _frame.panels(grid, list("abcd"), size=(2, 2)) == grid.ravel().tolist()
    assert _frame.panels(list(grid[0]), list("ab"), size=(2, 2)) == list(grid[0])
    assert _frame.panels(grid[0, 0], ["a"], size=(2, 2)) == [grid[0, 0]]
    with pytest.raises(ValueError, match=r"Found 4 axes in `ax`; expected 2, one for each panel: a, b\. Pass as many"):
        _frame.panels(grid, list("ab"), size=(2, 2))


def test_ncols_below_one():
    with pytest.raises(ValueError, match="`ncols` must be at least 1, found 0"):
        _frame.panels(None, ["a"], ncols=0, size=(2, 2))


# ---- saving and showing


@pytest.fixture
def shown(monkeypatch):
    from matplotlib import pyplot as plt

    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append("shown"))
    return calls


def test_saves_the_whole_figure_also_from_a_part_of_it(tmp_path, shown):
    from matplotlib import pyplot as plt

    left, _ = plt.figure().subfigures(1, 2)
    _frame.finish([left.subplots()], ax=None, show=None, save=tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert shown == []


def test_shows_only_new_figures_on_a_screen_unless_told(monkeypatch, shown, tmp_path):
    [ax] = _frame.panels(None, ["a"], size=(2, 2))
    _frame.finish([ax], ax=None, show=None, save=None)
    assert shown == []  # Agg has no screen
    _frame.finish([ax], ax=None, show=True, save=None)
    assert shown == ["shown"]
    monkeypatch.setattr(type(ax.figure.canvas), "required_interactive_framework", "qt")
    _frame.finish([ax], ax=ax, show=None, save=None)
    _frame.finish([ax], ax=None, show=None, save=tmp_path / "a.pdf")
    _frame.finish([ax], ax=None, show=False, save=None)
    assert shown == ["shown"]
    _frame.finish([ax], ax=None, show=None, save=None)
    assert shown == ["shown", "shown"]


# ---- signatures and texts

PLOTS = [name for name in pl.__all__ if name != "report"]  # which is a page of its own


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_takes_ax_show_and_save_by_keyword(name):
    parameters = inspect.signature(getattr(pl, name)).parameters
    for keyword in ("ax", "show", "save"):
        assert parameters[keyword].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[keyword].default is None


@pytest.mark.parametrize("name", PLOTS)
def test_shared_descriptions_are_filled_in(name):
    text = inspect.getdoc(getattr(pl, name))
    assert "%(" not in text
    assert "\nsave\n    Path of an image file to write; its ending decides the format.\n" in text
