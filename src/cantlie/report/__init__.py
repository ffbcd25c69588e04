"""Figures, HTML and PDF: documents as data, and the report of a planned case."""
