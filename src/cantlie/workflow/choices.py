"""What a user changes of a protocol for one run: delivery, fields, arcs, lesions, junction, dividing plane, scheme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from cantlie.core.errors import InputError
from cantlie.core.notes import Note
from cantlie.protocol.schema import Protocol
from cantlie.protocol.sections import Section

DELIVERIES = {
    "step-and-shoot": "step_and_shoot",
    "vmat": "arc",
    "conformal": "static",
    "field-in-field": "field_in_field",
}
"""Names of the techniques on the command line, and in protocols."""
_WORDS = {"static": "3-D conformal", "field_in_field": "field-in-field", "arc": "VMAT"}


def delivered_as(delivery: str) -> str:
    """Return what a protocol's delivery is planned as, in words: step-and-shoot for all that is not planned itself."""
    return _WORDS.get(delivery, "step-and-shoot")


def with_choices(
    protocol: Protocol,
    *,
    delivery: str | None = None,
    arcs: int | None = None,
    lesions: Sequence[str] = (),
    fields: int | None = None,
    gantry: str | None = None,
    couch: str | None = None,
    couch_most: float | None = None,
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
    if delivery is not None or arcs is not None:
        protocol = _delivered_by(protocol, delivery, arcs, notes)
    if lesions:
        protocol = _of_lesions(protocol, lesions)
        notes.append(_note(f"only {', '.join(lesions)} {'is' if len(lesions) == 1 else 'are'} treated, as chosen"))
    if fields is not None and fields != protocol.technique.fields:
        update: dict[str, Any] = {"fields": fields, "gantry_deg": (), "couch_deg": ()}
        least, most = protocol.technique.fields_least, protocol.technique.fields_most
        if (least is not None and fields < least) or (most is not None and fields > most):
            notes.append(_note(f"{fields} fields lie outside the {least} to {most} of the protocol", "warning"))
            update |= {"fields_least": None, "fields_most": None}
        protocol = protocol.model_copy(update={"technique": _changed(protocol.technique, "--fields", update)})
        notes.append(_note(f"{fields} fields were chosen"))
    if gantry is not None or couch is not None or couch_most is not None:
        protocol = _of_directions(protocol, gantry, couch, couch_most, notes)
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


def _delivered_by(protocol: Protocol, delivery: str | None, arcs: int | None, notes: list[Note]) -> Protocol:
    update: dict[str, Any] = {}
    if delivery is not None:
        if delivery not in DELIVERIES:
            raise InputError(
                f"{delivery!r} is no way of delivery", where="--delivery", remedy=f"choose {', '.join(DELIVERIES)}"
            )
        update["delivery"] = DELIVERIES[delivery]
        notes.append(_note(f"delivery by {delivery} was chosen"))
    if arcs is not None:
        if update.get("delivery", protocol.technique.delivery) != "arc":
            raise InputError("arcs belong to VMAT", where="--arcs", remedy="add --delivery vmat")
        update |= {"arcs": (), "arc_count": arcs}
        notes.append(_note(f"{arcs} arc{'s' * (arcs > 1)} were chosen" if arcs > 1 else "one arc was chosen"))
    return protocol.model_copy(update={"technique": _changed(protocol.technique, "--delivery", update)})


def _of_directions(
    protocol: Protocol, gantry: str | None, couch: str | None, couch_most: float | None, notes: list[Note]
) -> Protocol:
    """Return a protocol whose beams come from given directions, or whose chosen ones may turn the couch."""
    if gantry is None and couch is not None:
        raise InputError("couch angles need gantry angles", where="--couch", remedy="add --gantry")
    if protocol.technique.delivery == "arc":
        raise InputError(
            "directions are chosen for static fields, not for arcs", where="--gantry", remedy="leave them out"
        )
    update: dict[str, Any] = {}
    if gantry is not None:
        if couch_most is not None:
            raise InputError("directions are given, so none is chosen", where="--couch-most", remedy="leave it out")
        angles = _angles(gantry, "--gantry")
        turns = _angles(couch, "--couch") if couch is not None else ()
        if turns and len(turns) != len(angles):
            raise InputError(
                f"{len(turns)} couch angles for {len(angles)} gantry angles",
                where="--couch",
                remedy="give one for each",
            )
        update = {"fields": len(angles), "gantry_deg": angles, "couch_deg": turns}
        update |= {"fields_least": None, "fields_most": None}
        notes.append(_note(f"{len(angles)} beam directions were given"))
    if couch_most is not None:
        update |= {"couch_most_deg": couch_most, "gantry_deg": (), "couch_deg": ()}
        notes.append(_note(f"beams may be non-coplanar, with the couch turned by at most {couch_most:g} degrees"))
    return protocol.model_copy(update={"technique": _changed(protocol.technique, "--gantry", update)})


def _angles(text: str, option: str) -> tuple[float, ...]:
    remedy = "give degrees from -180 to 360 with commas between, as 0,120,240"
    try:
        angles = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{text!r} are no angles", where=option, remedy=remedy) from None
    if not all(-180.0 <= angle <= 360.0 for angle in angles):
        raise InputError(f"{text!r} holds an angle that does not exist", where=option, remedy=remedy)
    return tuple(angle % 360.0 for angle in angles)


def _of_lesions(protocol: Protocol, lesions: Sequence[str]) -> Protocol:
    """Return a protocol whose targets are made of some lesions only."""
    if any(target.recipe not in ("structure", "gtv_union", "largest_gtv") for target in protocol.targets):
        raise InputError(
            "this protocol treats parts of the liver, not lesions", where="--target", remedy="leave out the option"
        )
    update = {"recipe": "structure", "structure": " + ".join(lesions)}
    targets = tuple(_changed(target, "--target", update) for target in protocol.targets)
    return protocol.model_copy(update={"targets": targets})


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
    if not all(math.isfinite(value) for value in (x, y, z, nx, ny, nz)):
        raise InputError(f"{text!r} is not a plane", where="--plane", remedy="give six finite numbers")
    return (x, y, z), (nx, ny, nz)
