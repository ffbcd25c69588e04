"""The audit: recompute every number of a published paper that can be recomputed from the paper alone."""
