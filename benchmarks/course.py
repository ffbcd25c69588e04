"""How long the biology of a course takes: 30 sessions on a grid of 2.5 mm, every session with its own dose.

    python benchmarks/course.py [--spacing 2.5]

Times physical sum, EQD2 with full repair and BED with incomplete repair (mono- and bi-exponential), best of two, and
prints them as JSON. The bar is 10 s for each on two cores.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np

from cantlie.core.grid import Grid
from cantlie.course.accumulation import CourseDose
from cantlie.course.calendar import plan_calendar
from cantlie.protocol.loading import load_protocol
from cantlie.radiobiology.repair import Repair

EXTENT_MM = (400.0, 300.0, 200.0)
BAR_S = 10.0


def timed(work: Callable[[], Any]) -> float:
    """Return the least wall time of two runs after one to warm up."""
    work()
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spacing", type=float, default=2.5)
    spacing = parser.parse_args().spacing
    shape = tuple(round(extent / spacing) for extent in EXTENT_MM[::-1])
    grid = Grid(shape, (spacing, spacing, spacing), (0.0, 0.0, 0.0))
    calendar = plan_calendar(load_protocol("zhang2021-alternating"), date(2026, 1, 5))
    generator = np.random.default_rng(1)
    own = {s.number: 2.0 * generator.random(shape, dtype=np.float32) for s in calendar.given}
    plans = {name: own[n] for n, name in ((1, "PTV1"), (2, "PTV2"))}
    course = CourseDose(grid, calendar, plans, {"PTV1": 15, "PTV2": 15}, own)
    seconds = {
        "physical sum": timed(course.physical_gy),
        "EQD2, full repair": timed(lambda: course.eqd2_gy(2.5)),
        "BED, mono-exponential repair": timed(lambda: course.bed_gy(2.5, Repair.mono(2.0))),
        "BED, bi-exponential repair": timed(lambda: course.bed_gy(2.5, Repair.bi(0.5, 0.5, 4.0))),
    }
    print(
        json.dumps(
            {
                "sessions": len(own),
                "grid": list(shape),
                "voxels": int(np.prod(shape)),
                "seconds": {name: round(value, 3) for name, value in seconds.items()},
                "within_bar": all(value < BAR_S for value in seconds.values()),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
