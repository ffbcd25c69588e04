"""The chapters that close every report: what must be known of the result, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence

from cantlie.core.notes import Note
from cantlie.report.document import Block, Bullets, Callout, KeyValue, Section, Subheading


def remarks_section(notes: Sequence[Note], more: Sequence[Block] = ()) -> Section:
    """Return the notes of a result, warnings first, and what else belongs to them; no blocks where all is empty."""
    warnings = [note.sentence() for note in notes if note.level == "warning"]
    remarks = [note.sentence() for note in notes if note.level != "warning"]
    blocks: list[Block] = []
    if warnings:
        blocks.append(Callout("", "Warnings", "warning", warnings))
    if remarks:
        blocks += [Subheading("What was noted on the way"), Bullets(remarks)]
    return Section("Remarks", [*blocks, *more])


def provenance_section(
    facts: Sequence[tuple[str, object]], citations: Sequence[str], attributions: Sequence[str] = ()
) -> Section:
    """Return what a result was made from, the works that it rests on, and whose data they are."""
    blocks: list[Block] = []
    if facts:
        blocks.append(KeyValue(list(facts), columns=1))
    if citations:
        blocks += [Subheading("Sources"), Bullets(list(citations), numbered=True)]
    if attributions:
        blocks += [Subheading("Data"), Bullets(list(attributions))]
    return Section("Provenance", blocks)
