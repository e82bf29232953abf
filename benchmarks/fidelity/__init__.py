"""Every method x every data set x three seeds: how close are rasters to the measured truth?

``python -m benchmarks.fidelity --help`` says how to run it. How it is kept fair:

- A case (``cases.py``) holds what a method may see: the training spots, the picture and the tissue mask, which is told
  by the picture. Genes are chosen, scaled and factorised on the training spots alone. All methods of a seed get the same
  split, and predict expected counts in the same regions: the discs of held-out spots, or bins finer than spots.
- Held-out spots: Pearson correlation over spots of log-normalised values. A predicted rate stands for its expected
  log-normalised value under Poisson counts, or for its plain one, and kriging and ridge regression predict
  log-normalised values themselves: of each baseline the best of these forms counts, of sphisto always the first.
- Finer truths: raw expected counts of bins against raw true ones, each gene by itself. Bins that are not mostly tissue
  are left out; the others' predictions count by their share of tissue.
- Baselines may choose what they have to choose (widths, powers) by the very score they are judged by. sphisto may not.
- The noise ceiling is 0 for a gene whose thinned halves do not correlate at all.
- Deviance is that of Poisson counts in raw units, as the share of a constant map's (the training spots' mean) which is
  explained. Where the truth was counted by another platform, each gene's sum is adjusted first.

A new method is a function of a case and a line in ``methods/__init__.py``; a new data set is a file in ``sets``.
"""
