"""The checks, one idea a module; each takes loaded claims and gives findings."""
