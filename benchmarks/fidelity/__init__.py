"""Every method x every data set x three seeds: how close are rasters to the measured truth? ``--help`` says how to run it.

- All methods of a seed see the same training spots, image and tissue mask, which is told by the image. Genes are chosen,
  scaled and factorised on the training spots alone. Methods predict expected counts in the same regions.
- Baselines may choose widths and forms by the very score they are judged by. sphisto may not.
- A new method is a function of a case and a line in ``methods.py``; a new data set is a function and a line in ``cases.py``.
"""
