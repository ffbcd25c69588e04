"""The command line: all commands, and how their ends become exit codes."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path

import typer

from cantlie.cli import (
    compare,
    demo,
    doctor,
    dose,
    dose_pair,
    evaluate,
    follow_up,
    guidance,
    machine,
    plan,
    protocol,
    register,
    study,
)
from cantlie.cli.console import tell
from cantlie.core.errors import CantlieError

EXIT_BAD_INPUT = 2
MOST_PROBLEMS = 20
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130
STOPPED = "cantlie: stopped; the same command goes on where it was."

app = typer.Typer(
    name="cantlie",
    help="Liver radiotherapy research: from a patient's DICOM to plan, dose, biology and report. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("plan")(plan.plan)
app.command("compare")(compare.compare)
app.command("evaluate")(evaluate.evaluate)
app.command("dose")(dose.dose)
app.command("gamma")(dose_pair.gamma)
app.command("difference")(dose_pair.difference)
app.command("guidance")(guidance.guidance)
app.command("follow-up")(follow_up.follow_up)
app.command()(register.register)
app.add_typer(protocol.app, name="protocol")
app.add_typer(machine.app, name="machine")
app.add_typer(study.app, name="study")
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from cantlie import __version__

        typer.echo(f"cantlie {__version__} (research use only)")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Take options that stand before the command."""


def main() -> None:
    """Run the command line and leave with its exit code: 0 done, 1 a rule is not met, 2 bad input, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        app(arguments, standalone_mode=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == EXIT_INTERRUPTED:
            tell(STOPPED)
        return code
    except CantlieError as error:
        tell(f"cantlie: {error.sentence()}")
        for line in error.further[:MOST_PROBLEMS]:
            tell(f"  also: {line}")
        if len(error.further) > MOST_PROBLEMS:
            tell(f"  and {len(error.further) - MOST_PROBLEMS} more")
        return error.exit_code
    except KeyboardInterrupt:
        tell(STOPPED)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        tell("cantlie: the memory is not enough for this case; crop the CT to the abdomen or close other programs.")
        return EXIT_BAD_INPUT
    except Exception as error:
        record = _record_of(error)
        tell(
            f"cantlie: an error of Cantlie itself, not of your input ({type(error).__name__}); please report {record}."
        )
        return EXIT_INTERNAL
    return 0


def _record_of(error: Exception) -> Path:
    """Keep the traceback in a file of the temporary folder, for a report to the developers."""
    handle, name = tempfile.mkstemp(prefix="cantlie-error-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        traceback.print_exception(error, file=stream)
    return Path(name)


if __name__ == "__main__":
    main()
