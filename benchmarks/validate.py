"""Validate the dose engine and the planner, and write docs/validation: index.md, validation.csv and figures.

    python benchmarks/validate.py [--oracles ../shared/oracles] [--out docs/validation] [--only KEY ...]

Everything on the page is written by this run. Monte Carlo sets that ship with the tests are always used; the DICOM
cases and the 3-D sets where the folder of oracles is there (``--oracles``, else CANTLIE_ORACLES, else
../shared/oracles). The exit status says whether the run came to its end, not whether every number keeps its limit:
failures are part of the page.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from validation import (
    basic_tests,
    monte_carlo_cases,
    monte_carlo_sets,
    page,
    principles,
    scoring_cells,
    second_monte_carlo,
    tg119,
)
from validation.rows import Chapter

ROOT = Path(__file__).resolve().parents[1]


def chapters(oracles: Path | None) -> dict[str, Callable[[], Chapter]]:
    """Return what makes each chapter, in the order of the page."""
    makers: dict[str, Callable[[], Chapter]] = {}
    if oracles is not None:
        makers["cases"] = lambda: monte_carlo_cases.chapter(oracles)
    makers["sets"] = monte_carlo_sets.chapter
    if oracles is not None:
        makers["cells"] = lambda: scoring_cells.chapter(oracles)
    makers["second"] = second_monte_carlo.chapter
    makers["basic"] = basic_tests.chapter
    makers["principles"] = lambda: principles.chapter(oracles)
    makers["tg119"] = tg119.chapter
    return makers


def main() -> None:
    """Run the suite."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("CANTLIE_ORACLES", ROOT.parent / "shared" / "oracles"))
    parser.add_argument("--oracles", type=Path, default=shared, help="folder of the Monte Carlo references")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "validation", help="folder of the page")
    parser.add_argument("--only", nargs="+", help="make only these chapters; for trying things out, with another --out")
    options = parser.parse_args()
    oracles = options.oracles if (options.oracles / "dose").is_dir() else None
    if oracles is None:
        print(f"no oracles in {options.oracles}: the DICOM cases and 3-D sets are left out", file=sys.stderr)
    made = []
    for key, make in chapters(oracles).items():
        if options.only and key not in options.only:
            continue
        started = time.perf_counter()
        chapter = make()
        chapter.seconds = time.perf_counter() - started
        passed, failed, reported = chapter.count()
        print(
            f"{chapter.title}: {passed} pass, {failed} fail, {reported} reported, {chapter.seconds:.0f} s", flush=True
        )
        made.append(chapter)
    page.write(made, options.out, complete=oracles is not None)


if __name__ == "__main__":
    main()
