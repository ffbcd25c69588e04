"""The resumable stages of a run."""
