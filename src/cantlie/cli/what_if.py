"""Options on what may go otherwise than planned, shared by `plan` and `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cantlie.core.errors import InputError

if TYPE_CHECKING:
    from cantlie.workflow.what_if import WhatIf

Level = Literal["off", "quick", "full"]

RobustnessOption = Annotated[
    Level,
    typer.Option(
        "--robustness",
        metavar="LEVEL",
        help="Rules under displacements and density errors (quick), and in drawn courses as well (full); or off.",
    ),
]
RobustOption = Annotated[
    Literal["nominal", "expectation", "minimax"] | None,
    typer.Option(
        "--robust",
        metavar="HOW",
        help="Displaced targets (--shift-mm) count by their mean (expectation), worst (minimax), or not (nominal).",
    ),
]
ShiftOption = Annotated[
    str | None,
    typer.Option(
        "--shift-mm", metavar="MM|X,Y,Z", help="Displacement for --robustness and --robust (default: the protocol's)."
    ),
]
ShiftsOption = Annotated[
    Path | None,
    typer.Option("--shifts", metavar="LOG.csv", help="Shift log: each session's dose is displaced by what remained."),
]
SimulateOption = Annotated[
    str | None,
    typer.Option(
        "--simulate-setup", metavar="SIGMA,sigma", help="Displace sessions by drawn systematic and random errors, mm."
    ),
]
MotionOption = Annotated[
    str | None,
    typer.Option("--motion", metavar="MM|X,Y,Z", help="Breathing, peak to peak (one number: head to feet)."),
]
NoRadiographsOption = Annotated[
    bool, typer.Option("--no-radiographs", help="Leave out radiographs of beams and set-up pair, and their RTIMAGE.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Where the random numbers of simulated errors start.")]


def what_if_of(
    robustness: Level,
    shift_mm: str | None,
    shifts: Path | None,
    simulated: str | None,
    seed: int,
    motion: str | None = None,
    radiographs: bool = False,
    robust: Literal["nominal", "expectation", "minimax"] | None = None,
) -> WhatIf:
    """Return the questions from the options.

    Raises
    ------
    InputError
        If an option is not made of numbers, or a file is missing.
    """
    from cantlie.workflow.what_if import WhatIf

    if shifts is not None and not shifts.is_file():
        raise InputError("there is no such file", where=str(shifts), remedy="give the shift log as CSV")
    errors = None
    if simulated is not None:
        numbers = _numbers(simulated, "--simulate-setup", (2,))
        errors = (numbers[0], numbers[1])
    shift = None
    if shift_mm is not None:
        numbers = _numbers(shift_mm, "--shift-mm", (1, 3))
        x, y, z = numbers if len(numbers) == 3 else numbers * 3
        shift = (x, y, z)
    amplitude = None
    if motion is not None:
        numbers = _numbers(motion, "--motion", (1, 3))
        x, y, z = numbers if len(numbers) == 3 else (0.0, 0.0, numbers[0])
        amplitude = (x, y, z)
    return WhatIf(
        robustness=robustness,
        planning=robust,
        shift_mm=shift,
        shifts=shifts,
        simulated_mm=errors,
        motion_mm=amplitude,
        radiographs=radiographs,
        seed=seed,
    )


def _numbers(text: str, option: str, counts: tuple[int, ...]) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in counts or not all(0 <= number <= 50 for number in numbers):
        wanted = " or ".join(str(count) for count in counts)
        raise InputError(
            f"{text!r} is not {wanted} {'number' if counts == (1,) else 'numbers'} from 0 to 50",
            where=option,
            remedy="separate numbers by commas",
        )
    return numbers
