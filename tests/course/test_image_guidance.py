"""Image guidance: which sessions are due, the action level, the log against the calendar, and displaced sessions."""

from datetime import date

import numpy as np
import pytest

from cantlie.cohort.shift_log import parse_shift_log
from cantlie.core.errors import InputError
from cantlie.core.grid import Grid
from cantlie.course.accumulation import CourseDose
from cantlie.course.calendar import plan_calendar
from cantlie.course.image_guidance import axis_statistics, due_sessions, judge_guidance, population_errors
from cantlie.course.session_shifts import SessionShifts, drawn_shifts, logged_shifts, with_shifts
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.uncertainty import Guidance

HEADER = "session,modality,match,x_mm,y_mm,z_mm,corrected,residual_x_mm,residual_y_mm,residual_z_mm,approved_by\n"
YIN = load_protocol("yin2014-boost")


@pytest.fixture
def calendar():
    return plan_calendar(YIN, date(2026, 1, 5))


def test_the_level_of_2_mm_counts_along_any_axis(calendar):
    log = parse_shift_log(
        HEADER
        + "1,CBCT,bone > soft tissue,1.9,-1.9,1.9,no,,,,\n"
        + "2,CBCT,bone > soft tissue,0,-2.0,0,no,,,,\n"
        + "3,CBCT,bone > soft tissue,0,0,5,yes,0,0,0.5,\n"
        + "4,CBCT,bone > soft tissue,0,0,5,yes,0,0,2.5,\n"
        + "5,CBCT,bone,0,0,0,no,,,,\n"
        + "6,none,,,,,,,,,\n"
    )
    rows = judge_guidance(log, "", YIN.guidance, calendar)
    assert [row.verdict for row in rows[:6]] == ["pass", "fail", "pass", "fail", "fail", "fail"]
    assert {(row.verdict, row.reasons) for row in rows[6:]} == {("not evaluable", ("after the last row of the log",))}
    assert rows[1].over_axes == ("anterior-posterior",)
    assert rows[1].action == "correct"
    assert rows[0].action == "treat"
    assert "matched bone, not bone > soft tissue" in rows[4].reasons
    assert rows[5].reasons == ("an image is due and none is in the log",)
    assert len(rows) == 30


def test_a_session_left_out_is_missing_but_not_one_that_is_still_to_come(calendar):
    log = parse_shift_log("session,x_mm,y_mm,z_mm\n1,0,0,0\n3,0,0,0\n")
    verdicts = [
        row.verdict
        for row in judge_guidance(log, "", Guidance(frequency="every_session", action_level_mm=2.0), calendar)
    ]
    assert verdicts == ["pass", "fail", "pass", *["not evaluable"] * 27]


def test_first_three_then_the_first_of_every_week(calendar):
    due = due_sessions(calendar, Guidance(frequency="first_then_weekly", first_sessions=3))
    first = [s for s in calendar.given if s.target == calendar.given[0].target]
    assert [n for n, s in enumerate(first, 1) if due[s.number]][:5] == [1, 2, 3, 6, 11]
    assert all(due_sessions(calendar, Guidance(frequency="every_session")).values())


def test_no_image_is_due_before_the_department_had_them(calendar):
    rule = Guidance(frequency="every_session", available_from=date(2026, 1, 12))
    due = due_sessions(calendar, rule)
    assert [due[n] for n in range(1, 7)] == [False] * 5 + [True]


def test_sessions_are_found_by_day():
    calendar = plan_calendar(load_protocol("zhang2021-alternating"), date(2026, 1, 5))
    log = parse_shift_log(
        "date,time,target,x_mm,y_mm,z_mm\n2026-01-05,14:10,,1,0,0\n2026-01-05,08:05,,2,0,0\n2026-01-06,08:00,PTV2,3,0,0\n"
    )
    shifts = logged_shifts(log.of_patient(""), calendar).shifts_mm
    assert [shifts[n][0] for n in (1, 2, 4)] == [2, 1, 3]
    assert shifts[3] == (2, 0, 0)  # not imaged: where the patient lay on average


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "file is empty"),
        ("session,x_mm,y_mm,z_mm\n", "no rows"),
        ("session,x_mm,y_mm\n1,2,3\n", "z_mm"),
        ("x_mm,y_mm,z_mm\n1,2,3\n", "session or date"),
        ("session,x_mm,y_mm,z_mm,gantry\n1,2,3,4,5\n", "gantry"),
        ("session,x_mm,y_mm,z_mm\n1,2,,4\n", "y_mm"),
        ("session,x_mm,y_mm,z_mm\n1,2,3,400\n", "row 2.*z_mm"),
        ("session,x_mm,y_mm,z_mm\n1,2,nan,4\n", "y_mm"),
        ("session,x_mm,y_mm,z_mm\n0,2,3,4\n", "session"),
        ("date,x_mm,y_mm,z_mm\n05/01/2026,2,3,4\n", "row 2.*date"),
        ("session,x_mm,y_mm,z_mm,modality\n1,2,3,4,none\n", "modality"),
        ("session,x_mm,y_mm,z_mm,corrected\n1,2,3,4,maybe\n", "corrected"),
        ("session,x_mm,y_mm,z_mm\n1,2,3\n", "row 2.*3 cells|3 cells.*row 2"),
    ],
)
def test_a_bad_log_is_refused_with_row_and_column(text, what):
    with pytest.raises(InputError, match=f"(?s){what}"):
        parse_shift_log(text)


def test_a_log_with_semicolons_and_a_byte_order_mark_is_read():
    log = parse_shift_log("\ufeffSession;x_mm;y_mm;z_mm\n1;\u22122.5;0;1\n")
    assert log.entries[0].shift_mm == (-2.5, 0, 1)


def test_a_date_with_dots_has_the_day_first():
    log = parse_shift_log("date,x_mm,y_mm,z_mm\n5.1.2026,2,3,4\n")
    assert str(log.entries[0].day) == "2026-01-05"


def test_statistics_of_a_patient_and_of_all():
    random = np.random.default_rng(5)
    means = random.normal(0, 3, (200, 3))
    lines = [
        f"p{n},{s + 1}," + ",".join(f"{v:.4f}" for v in means[n] + random.normal(0, 2, 3))
        for n in range(200)
        for s in range(12)
    ]
    log = parse_shift_log("patient,session,x_mm,y_mm,z_mm\n" + "\n".join(lines) + "\n")
    errors, notes = population_errors(log)
    assert notes == ()
    assert errors.before.systematic_mm == pytest.approx([3, 3, 3], rel=0.15)
    assert errors.before.random_mm == pytest.approx([2, 2, 2], rel=0.05)
    assert errors.margin_before_mm == pytest.approx(2.5 * np.array(errors.before.systematic_mm)
                                                    + 0.7 * np.array(errors.before.random_mm))  # fmt: skip
    rows = axis_statistics(log, "p0")
    own = log.shifts_mm("p0")
    assert rows[2].absolute_mean_mm == pytest.approx(np.abs(own[:, 2]).mean())
    assert np.mean(np.abs(own[:, 2]) <= rows[2].covering_mm) >= 0.9


def test_displaced_sessions_add_up_to_the_displaced_dose():
    calendar = plan_calendar(YIN, date(2026, 1, 5))
    grid = Grid((20, 20, 20), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    ramp = np.broadcast_to(20 + 0.1 * grid.x_mm, grid.shape).astype(np.float32)
    fractions = {name: YIN.prescription(name).fractions for name in YIN.target_ids}
    course = CourseDose(grid, calendar, dict.fromkeys(YIN.target_ids, ramp), fractions)
    shifts = SessionShifts({s.number: (6.0, 0.0, 0.0) for s in calendar.given}, "test")
    moved = with_shifts(course, shifts).physical_gy()
    inner = (slice(None), slice(None), slice(2, -4))
    np.testing.assert_allclose(moved[inner], course.physical_gy()[inner] + 2 * 0.6, rtol=1e-4)


def test_a_drawn_course_has_the_errors_that_were_asked_for():
    calendar = plan_calendar(YIN, date(2026, 1, 5))
    drawn = [np.array(list(drawn_shifts(calendar, (3, 3, 3), (2, 2, 2), s).shifts_mm.values())) for s in range(200)]
    assert np.std([own.mean(axis=0) for own in drawn]) == pytest.approx(np.hypot(3, 2 / np.sqrt(30)), rel=0.1)
    assert np.mean([own.std(axis=0, ddof=1) for own in drawn]) == pytest.approx(2, rel=0.03)
    assert drawn_shifts(calendar, (3, 3, 3), (2, 2, 2), 1) == drawn_shifts(calendar, (3, 3, 3), (2, 2, 2), 1)


def test_displacements_that_look_like_centimetres_are_told():
    rows = [f"P{n % 2},{n // 2 + 1},{0.3 * (n % 3):.1f},0.9,-0.4" for n in range(12)]
    log = parse_shift_log("patient,session,x_mm,y_mm,z_mm\n" + "\n".join(rows) + "\n", "log.csv")
    assert any("look like centimetres" in note.message for note in log.notes)
    larger = "\n".join(rows).replace("0.9", "9.0")
    log = parse_shift_log("patient,session,x_mm,y_mm,z_mm\n" + larger + "\n", "log.csv")
    assert not log.notes
