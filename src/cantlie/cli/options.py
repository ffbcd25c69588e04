"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Device = Literal["auto", "cpu", "cuda"]
CaseArgument = Annotated[
    Path, typer.Argument(metavar="CASE", help="Folder or zip of DICOM files: planning CT and RTSTRUCT.")
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Output folder (default: below runs/).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print results.json on the output stream, nothing else.")]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where dose is computed.")]
ProtocolOption = Annotated[
    str, typer.Option("--protocol", metavar="ID|FILE", help="Built-in protocol or your own TOML file.")
]
MachineOption = Annotated[
    str | None, typer.Option("--machine", metavar="ID|FILE", help="Machine (default: the protocol's).")
]
DensityOption = Annotated[
    Path | None, typer.Option("--density-curve", metavar="FILE", help="CSV with the columns HU and g_cm3.")
]
AliasOption = Annotated[
    Path | None, typer.Option("--aliases", metavar="FILE", help="TOML with more structure names for TG-263 names.")
]

SeriesOption = Annotated[
    str | None, typer.Option("--series", metavar="UID", help="CT series, when the case holds several.")
]
StructureSetOption = Annotated[
    str | None,
    typer.Option("--structure-set", metavar="NAME", help="Label, file or UID of the RTSTRUCT, when there are several."),
]
PatientOption = Annotated[str | None, typer.Option("--patient", metavar="ID", help="Patient, when there are several.")]


def default_out(name: str) -> Path:
    """Return a folder below runs/ named after the work."""
    plain = "".join(c if c.isalnum() or c in "._-" else "-" for c in name).strip("-.") or "run"
    return Path("runs") / plain
