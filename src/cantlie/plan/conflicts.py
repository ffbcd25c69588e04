"""Rules that contradict each other: the least violation, and what relaxing each of the others would buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cantlie.core.progress import Progress, part, silent
from cantlie.plan.fluence import FluenceSolver, Log
from cantlie.plan.goals import Goal, Rule
from cantlie.plan.objectives import value
from cantlie.plan.request import Conflict, GoalOutcome, Trade

SETTLING_STEPS = 60
RELAXED_STEPS = 80
MOST_OPPONENTS = 4
MOST_LEFT_OUT = 2
"""Rules that are also left out altogether on trial: a small step hardly moves a share of volume far above a limit."""
LEAST_GAIN = 0.02
"""Share of what is missing that relaxing a rule must bring for it to count as opposed; less is noise of the solver."""


def contradictions(solver: FluenceSolver, progress: Progress = silent) -> dict[int, tuple[float, tuple[Trade, ...]]]:
    """Return the rules that the best fluence cannot hold, by the position of their goal.

    The fluence first settles with nothing of the limits kept in reserve. Then each rule that pulls the other way (the
    largest forces, which are the multipliers of the limits) is relaxed by a step, the fluence is solved again from
    where it stands, and what the broken rule gains is noted. Those that stand most against each broken rule are left
    out as well: where they then come to rest is as far as relaxing them serves at all.

    Returns
    -------
    dict
        To each broken rule's goal the metric at best and the trades, of steps before those of all the room that serves,
        the most worth first.
    """
    if not solver.unmet():
        return {}
    promised = solver.metrics()
    exact = [goal.exactly() if goal.rule.before_targets else goal.relaxed(0.0) for goal in solver.goals]
    settled = _copy(solver, exact)
    for _ in range(3):
        settled.improve(SETTLING_STEPS // 3, part(progress, 0.0, 0.2))
        settled.tighten()
    metrics = settled.metrics()
    broken = [n for n, goal in enumerate(exact) if not goal.seen_rule.met(metrics[n], 1e-3 * abs(goal.rule.limit))]
    if not broken:
        return {}
    doses = settled.problem.seen(settled.doses())
    forces = {
        n: value(goal.objective, settled.problem.scoped(goal.scope, doses)) * (1.0 + 100.0 * (goal.press > 0))
        for n, goal in enumerate(exact)
        if n not in broken and goal.rule.kind != "normalisation"
    }
    opponents = [n for n in sorted(forces, key=lambda n: -forces[n]) if forces[n] > 0][:MOST_OPPONENTS]
    opponents += [n for n in broken if exact[n].rule.before_targets]
    baseline = _copy(settled, exact)
    baseline.improve(RELAXED_STEPS, part(progress, 0.2, 0.3))
    at_rest = baseline.metrics()
    best = {n: min(promised[n], at_rest[n], key=exact[n].seen_rule.excess) for n in broken}
    found = _Found(exact, best, at_rest)
    opponents = list(dict.fromkeys(opponents))
    states = {}
    for number, opponent in enumerate(opponents):
        step = relaxation(exact[opponent].rule)
        relaxed = [goal.relaxed(step) if n == opponent else goal for n, goal in enumerate(exact)]
        trial = _copy(settled, relaxed)
        trial.improve(RELAXED_STEPS, part(progress, *_share(0.3, 0.7, number, len(opponents))))
        found.note(found.by_a_step, opponent, relaxed[opponent].rule.limit, trial.metrics(exact))
        states[opponent] = trial
    left_out = found.most_opposed(opponents)
    for number, opponent in enumerate(left_out):
        trial = _copy(states[opponent], [goal for n, goal in enumerate(states[opponent].goals) if n != opponent])
        trial.improve(2 * RELAXED_STEPS, part(progress, *_share(0.7, 1.0, number, len(left_out))))
        then = trial.metrics(exact)
        relaxed_to = _rounded_beyond(exact[opponent].rule, then[opponent] + exact[opponent].bias)
        if exact[opponent].rule.excess(relaxed_to) > relaxation(exact[opponent].rule):
            found.note(found.by_all_room, opponent, relaxed_to, then)
    return {n: (best[n], found.trades(n)) for n in broken}


class _Found:
    """What relaxing other rules was found to bring each broken one, by the positions of their goals."""

    def __init__(self, goals: Sequence[Goal], best: Mapping[int, float], at_rest: Sequence[float]) -> None:
        self.goals, self.best, self.at_rest = goals, best, at_rest
        self.by_a_step: dict[int, list[Trade]] = {n: [] for n in best}
        self.by_all_room: dict[int, list[Trade]] = {n: [] for n in best}

    def note(self, into: dict[int, list[Trade]], opponent: int, relaxed_to: float, then: Sequence[float]) -> None:
        """Note what every broken rule gains where a rule is relaxed, if it is more than a smaller step brought."""
        for n, best in self.best.items():
            if n == opponent:
                continue
            rule = self.goals[n].seen_rule
            gain = rule.excess(self.at_rest[n]) - rule.excess(then[n])
            if gain > self._gain(n, opponent) + LEAST_GAIN * abs(rule.excess(best)):
                reached = best - gain if rule.op.startswith("<") else best + gain
                into[n].append(_trade(self.goals[opponent].rule, relaxed_to, reached, gain))

    def most_opposed(self, opponents: Sequence[int]) -> list[int]:
        """Return the rules that stand most against the broken ones: by what a step bought, or else by their order."""
        chosen = []
        for n in self.best:
            gains = {one: self._gain(n, one) for one in opponents if one != n}
            chosen += sorted(gains, key=lambda one: -gains[one])[:1]  # a stable sort keeps the order of forces
        return list(dict.fromkeys(chosen))[:MOST_LEFT_OUT]

    def trades(self, n: int) -> tuple[Trade, ...]:
        """Return the trades of a broken rule, those of a step before those of all room, the most worth first."""
        parts = self.by_a_step[n], self.by_all_room[n]
        return tuple(trade for rows in parts for trade in sorted(rows, key=lambda trade: -trade.gain))

    def _gain(self, n: int, opponent: int) -> float:
        return max((one.gain for one in self.by_a_step[n] if _same(one, self.goals[opponent].rule)), default=0.0)


def _share(start: float, stop: float, number: int, count: int) -> tuple[float, float]:
    """Return where the progress of one of several equal parts begins and ends."""
    width = (stop - start) / count
    return start + number * width, start + (number + 1) * width


def _same(trade: Trade, rule: Rule) -> bool:
    return (trade.structure, trade.metric, trade.op, trade.limit, trade.scope) == (
        rule.structure, str(rule.metric), rule.op, rule.limit, rule.scope,
    )  # fmt: skip


def _rounded_beyond(rule: Rule, value: float) -> float:
    """Return a limit in whole tenths that a value just keeps."""
    return float(np.ceil(10 * value) / 10) if rule.op.startswith("<") else float(np.floor(10 * value) / 10)


def relaxation(rule: Rule) -> float:
    """Return the step by which a rule is relaxed on trial: 1 Gy, 1 % of volume or dose, or a twentieth of a volume."""
    return 1.0 if rule.unit in ("Gy", "%") else round(max(0.05 * rule.limit, 1.0), 1)


def conflicts_of(
    outcomes: Sequence[GoalOutcome],
    rules: Sequence[Rule],
    found: dict[int, tuple[float, tuple[Trade, ...]]],
) -> tuple[Conflict, ...]:
    """Return every rule that is broken in the delivered dose, or that the fluence could not hold.

    Parameters
    ----------
    outcomes, rules
        What became of every rule, in the same order.
    found
        The contradictions in the fluence by the position of their rule.
    """
    rows = []
    for position, (outcome, rule) in enumerate(zip(outcomes, rules, strict=True)):
        if outcome.met:
            continue
        best, trades = found.get(position, (outcome.promised, ()))
        kind = "contradiction" if position in found else "delivery"
        rows.append(
            Conflict(
                outcome.structure, outcome.metric, outcome.op, outcome.limit, outcome.unit, outcome.scope,
                rule.priority, kind, best, outcome.delivered, trades,
            )
        )  # fmt: skip
    return tuple(sorted(rows, key=lambda row: (row.priority, row.structure)))


def _trade(rule: Rule, relaxed_to: float, best: float, gain: float) -> Trade:
    return Trade(
        rule.structure, str(rule.metric), rule.op, rule.limit, rule.unit, rule.scope, relaxed_to, float(best),
        float(gain),
    )  # fmt: skip


def _copy(solver: FluenceSolver, goals: Sequence[Goal]) -> FluenceSolver:
    """Return a solver of the same problem with other goals, that starts where this one stands."""
    own = {id(goal) for goal in solver.goals}
    terms = [*goals, *(term for term in solver.problem.terms if id(term) not in own)]
    return FluenceSolver(
        solver.plans,
        replace(solver.problem, terms=terms),
        goals,
        solver.voxels,
        [1.0] * len(solver.plans),
        start=solver.openings,
        sharp=solver.sharp,
        log=Log(),
    )
