"""A study as data: its analyses, tables and figures, synthetic cohorts, and the audit of a published paper."""
