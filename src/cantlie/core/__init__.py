"""Geometry on a patient grid, errors, notes, provenance, progress and atomic files: what every floor stands on."""
