"""The validation suite of the dose engine and the planner; run by `benchmarks/validate.py`."""
