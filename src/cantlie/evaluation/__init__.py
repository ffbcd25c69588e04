"""DVH, dose metrics, constraint tables, conformity, gamma."""
