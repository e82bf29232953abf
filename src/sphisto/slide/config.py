"""Settings of the algorithms that find tissue, recognise arrays of spots and check where the spots lie.

The defaults hold for all sections; nothing that users call takes these settings.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TissueConfig:
    """What distinguishes tissue from glass, padding, dust and printed marks."""

    edge_um: float = 8.0  # pixel of the fine grid in um: a cell nucleus, the finest edge of tissue that matters
    coarsest_um: float = 16.0  # pixel of the fine grid of large images in um: still a quarter of a Visium spot
    many_pixels: int = 2_000_000  # an image is large if its fine grid would have more pixels: they take a second or two
    # pixel of the texture grid in um: scanner noise and dust average out, tissue structure does not
    texture_um: float = 20.0
    window_um: float = 40.0  # standard deviation of the window in which texture is measured, in um: a few cells
    # the light on the glass varies slowly: the glass colour is smoothed over this width (um)
    glass_smoothing_um: float = 100.0
    # a gap in which no disc of this radius (um) fits is inside tissue: lumina of fat cells are up to about 100 um wide
    fat_cell_um: float = 60.0
    # how far (um) the outside may extend back into the notches that closing filled: less than a fat cell
    trim_um: float = 40.0
    # it does so only through openings wider than twice this (um): cracks thinner than that are inside tissue
    passage_um: float = 15.0
    # printed marks are discs of 50 um radius and their blur: a piece of tissue is thicker than this somewhere
    dot_radius_um: float = 75.0
    # a stained piece in which a disc of this radius (um) fits is no single printed mark, speck or hair
    core_radius_um: float = 65.0
    min_piece_mm2: float = 0.03  # smaller stained pieces are dust (a disc of 100 um radius)
    sure_piece_mm2: float = 0.1  # larger ones count however thin they are: lacy tissue is a net
    min_hole_mm2: float = 0.02  # smaller holes (a disc of 80 um radius) are vessels, ducts and fat: tissue
    bubble_mm2: float = 0.5  # air bubbles in the mounting medium are not larger than this, 0.8 mm wide
    frame_mm: float = 3.0  # a printed frame is larger than this; a cluster of crumbs is smaller
    # width of the printed frame between the centres of its outer rows: three rows 150 um apart, and tilt
    frame_band_um: float = 400.0
    # least and most area of a printed mark: 0.008 mm2, with a margin for sharp rims and blur
    dot_mm2: tuple[float, float] = (0.004, 0.02)
    frame_dots: int = 24  # fewer separate dots make no frame
    # pixels of the image that are averaged at a time; any number gives the same mask, more take more memory
    strip: int = 2**22
    # less texture (optical density) may be glass: measured 0.0003-0.008 on glass, 0.010 in the smoothest tissue
    texture_floor: float = 0.009
    # only padding has less texture (optical density): it shows nothing of the noise of the image
    texture_none: float = 1e-5
    texture_ceiling: float = 0.03  # texture (optical density) that is always tissue, however noisy the glass
    void: float = 3.8  # optical density in all colours (5 of 255 counts) above which nothing was scanned: black padding
    bright: float = 0.12  # glass is no darker than the brightest 2 % of the image by more than this (optical density)
    # smooth areas darker than the main glass by more than this (optical density) are stained: smooth tissue
    same_glass: float = 0.1
    # least and most optical density above the glass that counts as stain; sixteen times the noise of the glass between
    # the two
    stain: tuple[float, float] = (0.02, 0.1)
    # next to tissue, stain must be this share of the tissue's: dye runs out of it, and lenses blur it
    halo: float = 0.1
    # colour, as a share of stain, of an image that has any: H&E 0.5-0.9, printed marks and bubbles 0.1-0.3, grey 0
    coloured: float = 0.3
    grey: float = 0.5  # pieces with less than this share of the main piece's colour do not belong to its tissue


@dataclass(frozen=True)
class ArrayConfig:
    """How well centres, positions and sizes of spots must agree with an array for it to be recognised."""

    # relative difference of proportions or distances that is still the same; the arrays' row : column ratios lie 0.7
    # apart
    tolerance: float = 0.15
    # scatter of the centres about their lattice, as a share of its unit; if it is larger, array_row and array_col do
    # not belong to the coordinates
    scatter: float = 0.2
    rounding_px: float = 0.45  # scatter of coordinates in whole pixels: 0.41 px, and a margin
    # squares at least this large, as a share of the lattice unit, touch: bins fill it, printed spots reach 0.65
    touching: float = 0.8
    # relative difference of a side from the pitch up to which squares are rather bins than spots of a wrong diameter
    bins_touch: float = 0.03
    # relative difference of sizes of Spatial Transcriptomics spots: readers write 65 to 130 um for them
    spot_size_tolerance: float = 0.4
    # relative difference from 65 um up to which a diameter is Space Ranger's theoretical one
    nominal_tolerance: float = 0.1
    # relative difference of a stated scale from the array's that is warned of; registration and rounding make less
    scale_differs: float = 0.05
    # ratio of the two that is a contradiction: the next bin size, or the scale of another image, is twice as large or
    # more
    scale_contradicts: float = 1.5
    ring: float = 1.4  # neighbours lie within this many pitches; the second ring of a hexagonal array lies at 1.73
    # least mean of exp(6i angle) of hexagonal neighbours; coordinates in whole pixels turn them by some degrees
    order: float = 0.75
    # trimmings, majority: fits, each without the spots farthest off, and share of the spots that is kept, to find where
    # most belong
    trimmings: int = 5
    majority: float = 0.75
    min_apart_px: float = 0.5  # spots nearer to each other, in px, are in another unit
    min_spots: int = 7  # fewer spots show no arrangement: a spot and its six neighbours
    # mean distance of positions on an array from whole numbers; that of the means of cells' bins is 0.2
    whole: float = 0.1
    # mean distance of steps from a lattice, as a share of its side; that of arbitrary steps is 0.38
    off_lattice: float = 0.2
    max_off_lattice: float = 0.3  # the same for coordinates in whole pixels, however few of these a side has
    # steps between neighbours that are compared with a lattice: enough for a mean, few enough to take no time
    sampled: int = 2000
    touching_share: float = 0.05  # share of bins that have a neighbour, if only one in 80 is left
    # degrees by which bins are turned at least: less moves their corners by 1/1000 of a side, and is rounding
    least_turn: float = 0.1
    # sparse, overlap: least and most size of printed spots, as a share of the pitch: they reach half of it, and do not
    # overlap but for rounding
    sparse: float = 0.3
    overlap: float = 1.1


@dataclass(frozen=True)
class PlacementConfig:
    """When spots and tissue agree, and when another orientation of the image explains them better."""

    # radius of a spot's cell in pitches: discs of 0.58 cover a hexagonal array, and a square one but for its corners
    cell_radius: float = 0.6
    # pixels per pitch of the grid that is scored: enough to draw a disc, few enough to take no time
    steps_per_pitch: int = 6
    # how much more of the tissue another orientation must explain: near-symmetric tissue differs by less
    clearly_better: float = 0.10
    # an orientation that explains less of the tissue is no explanation: the image or its scale is wrong
    plausible: float = 0.6
    as_good: float = 0.02  # orientations closer than this to the best one cannot be distinguished from it
    max_outside: float = 0.01  # share of spots that may lie beyond the edge of the image: a cropped image loses a few
    min_on_tissue: float = 0.5  # share of spots on tissue below which a coarse mask is no explanation
    # least factor by which the spots' positions are multiplied to look for the image's scale factor (and its inverse),
    # and the number of factors from one to the other: lowres and full-resolution images differ by some 20
    scales: tuple[float, int] = (1 / 24, 111)
    # factors between two neighbours of these, tried at last: an outline tells the scale to 1 or 2 %
    fine_scales: int = 9
    # how much more of the tissue another scale must explain. Eight real sections gained at most 0.03 where the scale
    # was right, and 0.12 to 0.35 where it was 10 % off, but for one whose tissue fills the image
    scale_gain: float = 0.08
    scale_plausible: float = 0.8  # a scale that explains less of the tissue is no explanation
    # factor by which the positions are moved away from the best scale, and how much less these must explain: else the
    # tissue has no outline that could tell, as where it fills the image
    peak: tuple[float, float] = (1.25, 0.1)
    # farthest shift of the spots that is tried, in pitches
    farthest: int = 12
    least_shift: float = 0.75  # pitches; of less the outline tells nothing
    # how much more of the tissue a shift must explain to be warned of, and to be refused. Where they lay right, eight real
    # sections gained at most 0.02, and pieces of them that reached `shift_plausible` at most 0.06. The seven that do not
    # fill their image gained 0.03 to 0.15 one pitch off, 0.07 to 0.3 two pitches off
    shift_gain: tuple[float, float] = (0.06, 0.10)
    shift_plausible: float = 0.8  # a shift that explains less is no explanation: the spots may be some of a section's
    most_cells: int = 5000  # more spots (small bins) are taken together in squares to compare scales


@dataclass(frozen=True)
class RegistrationConfig:
    """How sections are laid upon each other, and when the result is trusted.

    Limits were read off all pairs of seven real sections of three tissues, of which seven pairs are neighbours
    (`benchmarks/registration.py` prints the table). Limits chosen on half of the tissues trusted no wrong registration of the
    other half either, but lost up to half of the right ones.
    """

    # pixel at which sections are compared, in um: coarser than cells, which neighbouring sections do not share
    um_per_px: float = 40.0
    # smooth_um, flatten_um: standard deviations in um of the Gaussians by which stain is smoothed, and whose slow drift
    # is taken off it: the layers and ducts that remain are seen in neighbouring sections, dyes and light differ from
    # one to the next
    smooth_um: float = 60.0
    flatten_um: float = 500.0
    stain_weight: float = 0.5  # what a correlation of stain counts for beside an overlap of outlines
    starts: int = 36  # angles from which the search begins
    refined: int = 10  # of these, the best that are followed to their optimum
    most_points: int = 1500  # pixels of the moving tissue that are compared during the search
    stretch: float = 1.2  # most by which an affine registration stretches or shrinks along any line
    # least overlap (Dice) of outlines where no spots confirm the registration. Neighbours 0.92 to 0.98; mirrored
    # neighbours up to 0.90, other tissues up to 0.85
    least_overlap: float = 0.91
    # the same where spots are compared, too. Neighbours of which one has lost 30 % of its tissue overlap by 0.75 to
    # 0.82, and are found all the same
    least_overlap_with_spots: float = 0.75
    # least lead of the score over any other place, half-turned or mirrored, of the same section. Neighbours 0.14 to
    # 0.24; other tissues up to 0.04
    least_margin: float = 0.1
    # mean distance in um from which a place is another one: less than two pitches of Spatial Transcriptomics
    other_place_um: float = 300.0
    # most distance in um from landmarks to the place near by where outlines and stain fit best
    most_off_um: float = 100.0
    expression_genes: int = 200  # genes of most counts that are compared at spots
    probe_pitches: float = 2.0  # shift in pitches at which expression is compared, too: in eight directions
    near_pitches: float = 0.75  # spots of two sections within this many pitches are compared
    least_spots: int = 20  # fewer such spots tell nothing
    # least lead over the mean of shifted spots. Neighbours 0.06 to 0.17; mirrored neighbours 0.00 to 0.036
    expression_gain: float = 0.04
