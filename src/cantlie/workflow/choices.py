"""What a user changes of a protocol for one run: fields, junction, dividing plane, scheme."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from cantlie.core.errors import InputError
from cantlie.core.notes import Note
from cantlie.protocol.schema import Protocol
from cantlie.protocol.sections import Section


def with_choices(
    protocol: Protocol,
    *,
    fields: int | None = None,
    split: str | None = None,
    junction: str | None = None,
    junction_mm: float | None = None,
    plane: str | None = None,
    scheme: str | None = None,
) -> tuple[Protocol, tuple[Note, ...]]:
    """Return a protocol with a user's choices in place of its own, and a note on each.

    Raises
    ------
    CantlieError
        If the protocol has nothing that the choice could change, or the choice is impossible.
    """
    notes: list[Note] = []
    if scheme is not None:
        protocol = protocol.with_scheme(scheme)
        notes.append(_note(f"scheme {scheme} was chosen"))
    if fields is not None and fields != protocol.technique.fields:
        update: dict[str, Any] = {"fields": fields, "gantry_deg": (), "couch_deg": ()}
        least, most = protocol.technique.fields_least, protocol.technique.fields_most
        if (least is not None and fields < least) or (most is not None and fields > most):
            notes.append(_note(f"{fields} fields lie outside the {least} to {most} of the protocol", "warning"))
            update |= {"fields_least": None, "fields_most": None}
        protocol = protocol.model_copy(update={"technique": _changed(protocol.technique, "--fields", update)})
        notes.append(_note(f"{fields} fields were chosen"))
    changes: dict[str, Any] = {}
    if split is not None:
        changes |= {"method": split, "plane_point_mm": None, "plane_normal": None}
        notes.append(_note(f"the liver is divided by the method {split}, as chosen"))
    if junction is not None:
        width = 0.0 if junction_mm is None else junction_mm
        changes |= {"junction": junction, "gap_mm": 0.0, "feather_mm": 0.0, "feather_steps": 1}
        if junction == "gap":
            changes["gap_mm"] = width or 5.0
        if junction == "feather":
            changes |= {"feather_mm": width or 10.0, "feather_steps": 3}
        notes.append(_note(f"junction policy {junction} was chosen"))
    if plane is not None:
        point, normal = _plane(plane)
        changes |= {"method": "plane", "plane_point_mm": point, "plane_normal": normal}
        notes.append(_note("the dividing plane was given"))
    if changes:
        if protocol.split is None:
            raise InputError(
                "this protocol does not divide the liver", where=protocol.id, remedy="leave out the option"
            )
        given = {"--split": split, "--junction": junction, "--plane": plane}
        option = " ".join(name for name, value in given.items() if value is not None)
        protocol = protocol.model_copy(update={"split": _changed(protocol.split, option, changes)})
    return protocol, tuple(notes)


def _note(message: str, level: Any = "info") -> Note:
    return Note(message, "protocol", level)


def _changed(section: Any, option: str, update: dict[str, Any]) -> Any:
    """Return a table of the protocol with other values, checked as when it is read."""
    table: Section = section
    try:
        return type(table).model_validate({**table.model_dump(), **update})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(first["msg"], where=option, remedy="see `cantlie plan --help`") from None


def _plane(text: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    try:
        x, y, z, nx, ny, nz = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{text!r} is not a plane",
            where="--plane",
            remedy="give six numbers X,Y,Z,NX,NY,NZ: a point in LPS mm and the normal",
        ) from None
    return (x, y, z), (nx, ny, nz)
