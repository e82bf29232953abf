"""What sections of the same tissue are worth: how well spots are predicted, by how many of the section's own are known.

Of a target section a random share of the spots is known, none at all included; of the other sections all are. Choice of
genes, factors and levels sees known spots alone. All spots that are not known are scored.
"""
