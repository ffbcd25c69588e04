"""Linacs: geometry (IEC 61217), multileaf collimators, limits, apertures and the beam model."""
