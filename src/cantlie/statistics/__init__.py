"""Survival, competing risks, regression, matching, association and summary tables."""
