"""Beams, objectives, fluence optimisation, leaf sequencing and normalisation."""
