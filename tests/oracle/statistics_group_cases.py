"""How each kind of comparison, table, matching or formula of the oracles is computed with Cantlie and compared."""

import re
from typing import Any

import numpy as np
import pandas as pd
from statistics_expected import Expected
from statistics_formula import covariates, evaluate, event_indicator, r_name
from statistics_survival_cases import Case, check_cox, check_curve, check_log_rank, check_rates

from cantlie.statistics.association import fisher_exact, likelihood_ratio, mcnemar, pearson_chi2, trend
from cantlie.statistics.balance import all_levels, balance, effective_sample_size, propensity_weights
from cantlie.statistics.comparison import describe, kruskal_wallis, mann_whitney, t_test, welch
from cantlie.statistics.cox import cox
from cantlie.statistics.imputation import pool
from cantlie.statistics.logistic import LogisticModel, logistic
from cantlie.statistics.logrank import log_rank
from cantlie.statistics.matching import Matching, match, propensity_score, score_sds
from cantlie.statistics.power import events_for_hazard_ratio
from cantlie.statistics.proportion import proportion_interval
from cantlie.statistics.sensitivity import e_value
from cantlie.statistics.survival import kaplan_meier


def contingency(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    for name in expected:
        wanted = expected[name]
        table = wanted["table"].values
        wanted["table"].done()
        pearson, corrected = pearson_chi2(table), pearson_chi2(table, yates=True)
        fisher, ratio = fisher_exact(table), likelihood_ratio(table)
        low, high = fisher.odds_ratio_ci or (None, None)
        values: dict[str, dict[str, Any]] = {
            "pearson": {
                "chisq": pearson.statistic,
                "df": pearson.df,
                "p": pearson.p_value,
                "min_expected": pearson.min_expected,
            },
            "yates": {"chisq": corrected.statistic, "p": corrected.p_value, "df": corrected.df},
            "fisher": {"p": fisher.p_value, "or_cond_mle": fisher.odds_ratio, "ci": [low, high]},
            "likelihood_ratio": {"g2": ratio.statistic, "p": ratio.p_value, "df": ratio.df},
        }
        if "trend" in wanted:
            found = trend(table)
            values["trend"] = {"chisq": found.statistic, "df": found.df, "p": found.p_value}
        for test in set(wanted) & set(values):
            for key in set(wanted[test]) & set(values[test]):
                wanted[test][key].is_(values[test][key])


def binomial_ci(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    methods = {
        "clopper_pearson": "clopper-pearson",
        "wilson": "wilson",
        "wilson_cc": "wilson-cc",
        "agresti_coull": "agresti-coull",
        "jeffreys": "jeffreys",
        "wald": "wald",
    }
    for position in expected:
        row = expected[position]
        for key in set(row) & set(methods):
            found = proportion_interval(row["x"].values, row["n"].values, method=methods[key])
            row[key].is_([found.lower, found.upper])
        row["x"].done()
        row["n"].done()


def mcnemar_case(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    for position in expected:
        row = expected[position]
        found = mcnemar(row["b"].values, row["c"].values)
        values = {"exact": found.exact_p, "cc": found.corrected_p, "nocc": found.asymptotic_p, "midp": found.mid_p}
        for key in set(row) & set(values):
            row[key].is_(values[key])
        row["b"].done()
        row["c"].done()


def two_sample(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    group = evaluate(case["inputs"]["group"], data)
    columns = {re.sub(r"\W", "_", column): column for column in data.columns}
    for name in expected:
        if name in ("quantile_note",):
            continue
        wanted = expected[name]
        frame = pd.DataFrame({"x": data[columns[name]], "g": group}).dropna()
        labels = sorted(frame["g"].unique())
        samples = [frame["x"][frame["g"] == label].to_numpy() for label in labels]
        numeric = all(isinstance(label, int | float) for label in wanted["groups"].values)
        wanted["groups"].is_(labels if numeric else [r_name(label) for label in labels])
        wanted["n"].is_([len(sample) for sample in samples])
        for key, attribute in (("medians", "median"), ("q1", "q1"), ("q3", "q3"), ("means", "mean"), ("sds", "sd")):
            if key in wanted:
                wanted[key].is_([getattr(describe(sample), attribute) for sample in samples])
        kruskal = kruskal_wallis(*samples)
        wanted["kruskal"]["H"].is_(kruskal.statistic)
        wanted["kruskal"]["p"].is_(kruskal.p_value)
        if len(samples) != 2:
            continue
        plain = mann_whitney(*samples, method="asymptotic", continuity=False)
        wanted["W"].is_(plain.u_first)
        wanted["p_nocorrect"].is_(plain.p_value)
        wanted["p_correct"].is_(mann_whitney(*samples, method="asymptotic").p_value)
        for key, test in (("welch_t", welch(*samples)), ("student_t", t_test(*samples))):
            wanted[key]["t"].is_(test.statistic)
            wanted[key]["p"].is_(test.p_value)
            if "df" in wanted[key]:
                wanted[key]["df"].is_(test.df)


def rubin(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    given = case["inputs"]
    found = pool(given["Q"], given["U"], n=given.get("n", float("inf")), parameters=given.get("k", 1))
    values = {
        "qbar": found.estimate, "ubar": found.within, "b": found.between, "t": found.total, "df": found.df,
        "r": found.relative_increase, "fmi": found.missing_information,
    }  # fmt: skip
    for key in set(expected) & set(values):
        expected[key].is_(values[key])


def evalue(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    for position in expected:
        row = expected[position]
        given = row.values
        found = e_value(given["hr"], given.get("lo"), given.get("hi"), rare=given["rare"])
        row["evalue_point"].is_(found.point)
        row["evalue_ci"].is_(found.interval)
        for key in set(row) & {"hr", "lo", "hi", "rare"}:
            row[key].done()


def sample_size(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    for position in expected:
        row = expected[position]
        given = {key: row[key].values for key in ("power", "alpha")}
        share = row["alloc"].values
        schoenfeld = events_for_hazard_ratio(row["hr"].values, allocation=share, **given)
        row["events"].is_(schoenfeld.exact)
        row["events_ceil"].is_(schoenfeld.needed)
        row["freedman_events_1to1"].is_(events_for_hazard_ratio(row["hr"].values, method="freedman", **given).exact)
        for key in ("hr", "power", "alpha", "alloc"):
            row[key].done()


def firth_logistic(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    inputs = case["inputs"]
    if "formula" in inputs:
        left, right = inputs["formula"].split("~")
        frame = pd.concat([evaluate(left, data).rename("outcome"), covariates(right, data)[0]], axis=1).dropna()
        found = logistic(frame.pop("outcome"), frame, firth=True)
    else:
        first = re.search(r"x=1 for group (\w+)", inputs["coding"])
        assert first
        outcome, exposed = [], []
        for name, counts in inputs["table"].items():
            events = next(value for key, value in counts.items() if key != "n")
            outcome += [1] * events + [0] * (counts["n"] - events)
            exposed += [float(name == f"group{first.group(1)}")] * counts["n"]
        found = logistic(outcome, pd.DataFrame({"x": exposed}), firth=True)
    expected["terms"].is_(found.terms)
    expected["coef"].is_(found.coef)
    expected["se"].is_(found.se)


class Propensity:
    """One matching case: the model, the matchings, the weights."""

    def __init__(self, case: Case, data: pd.DataFrame) -> None:
        inputs = case["inputs"]
        left, right = inputs["formula"].split("~")
        x = covariates(right, data)[0]
        treated = evaluate(left, data)
        kept = x.notna().all(axis=1) & treated.notna()
        self.inputs, self.data, self.x = inputs, data[kept].reset_index(drop=True), x[kept].reset_index(drop=True)
        self.treated = treated[kept].to_numpy(dtype=float)
        self.model: LogisticModel = propensity_score(self.treated, self.x)
        if inputs.get("time"):
            self.time = evaluate(inputs["time"], self.data).to_numpy(dtype=float)
            self.event = event_indicator(evaluate(inputs["event"], self.data)).to_numpy(dtype=float)

    def smd(self, expected: Expected, weights: Any) -> None:
        for key in expected:
            if key.endswith("_sd"):
                found = balance(self.treated, self.x, weights=weights, denominator=key[:-3])
                values = found.before if weights is None else found.after
                assert values is not None
                expected[key].is_(values, floor=1e-12)
        if "terms" in expected:
            expected["terms"].is_(found.terms)

    def options(self, name: str) -> dict[str, Any]:
        """Read ``nearest_caliper0.2_order_data``, ``optimal``, ``..._ratio2``, ``..._replace`` and their kin."""
        options: dict[str, Any] = {"method": "optimal" if name.startswith("optimal") else "nearest", "caliper": None}
        for pattern, key, kind in ((r"caliper([\d.]+)", "caliper", float), (r"ratio(\d)", "ratio", int)):
            if found := re.search(pattern, name):
                options[key] = kind(found.group(1))
        if found := re.search(r"order_([a-z]+)", name):
            options["order"] = found.group(1)
        options["replace"] = "replace" in name
        return options

    def matching(self, name: str, expected: Expected) -> None:
        found = match(self.treated, self.model.linear, **self.options(name))
        expected["pairs"].is_(found.pairs)
        for key, value in (("unmatched_treated", found.unmatched_treated), ("caliper_abs", found.caliper)):
            if key in expected:
                expected[key].is_(value)
        if "pair_rows_0based" in expected:
            self.same_pairs(found, np.asarray(expected["pair_rows_0based"].values))
            expected["pair_rows_0based"].done()
        self.smd(expected["smd_after"], found.weight)
        if "matchit_summary_after" in expected:
            wanted = expected["matchit_summary_after"]
            table = all_levels(self.x)
            table.insert(0, "distance", self.model.linear)
            shown = balance(self.treated, table, weights=found.weight, denominator="treated", binary_from_share=True)
            # MatchIt puts factor(x) between backticks.
            wanted["terms"].is_([re.sub(r"^(factor\(.*\))(.*)$", r"`\1`\2", term) for term in shown.terms])
            assert shown.after is not None
            wanted["std_mean_diff"].is_(shown.after)
        for key in expected:
            if key.startswith("att_"):
                outcome = self.data[key[4:]].to_numpy(dtype=float)
                own = self.treated == 1
                means = [np.average(outcome[side], weights=found.weight[side]) for side in (own, ~own)]
                expected[key].is_(means[0] - means[1])
        self.after(found, expected)

    def same_pairs(self, found: Matching, wanted: np.ndarray[Any, Any]) -> None:
        """Pairs are those of MatchIt; among exactly tied scores other pairs of the same patients will do."""
        mine = set(zip(found.treated.tolist(), found.control.tolist(), strict=True))
        theirs = {(int(first), int(second)) for first, second in wanted}
        if mine != theirs:
            assert {control for _, control in mine} == {control for _, control in theirs}
            distance = np.abs(self.model.linear[wanted[:, 0]] - self.model.linear[wanted[:, 1]]).sum()
            assert abs(found.distance.sum() - distance) < 1e-9

    def after(self, found: Matching, expected: Expected) -> None:
        if "cox_after" not in expected:
            return
        used = found.weight > 0
        time, event, z = self.time[used], self.event[used], self.treated[used]
        for key in expected["cox_after"]:
            grouped = {"cluster": "cluster", "strata": "strata"}.get(key.split("_")[0])
            options = {grouped: found.subclass[used]} if grouped else {}
            check_cox(cox(time, event, z, **options), expected["cox_after"][key])
        check_log_rank(log_rank(time, event, z), expected["logrank_after"])
        for label in expected["km_after"]:
            own = z == float(label)
            check_curve(time[own], event[own], self.inputs["times"], expected["km_after"][label])

    def weighting(self, name: str, expected: Expected) -> None:
        estimands = {"overlap_ato": "overlap", "matching_atm": "matching", "ate_stabilised": "ate-stabilised"}
        weight = propensity_weights(self.treated, self.model.fitted, estimand=estimands.get(name, name))
        own = self.treated == 1
        expected["sum_w_treated"].is_(weight[own].sum())
        expected["sum_w_control"].is_(weight[~own].sum())
        expected["max_w"].is_(weight.max())
        expected["ess_treated"].is_(effective_sample_size(weight[own]))
        expected["ess_control"].is_(effective_sample_size(weight[~own]))
        for key in expected:
            if key.startswith("smd_"):
                found = balance(self.treated, self.x, weights=weight, denominator=key[4:-3])
                assert found.after is not None
                expected[key].is_(found.after, floor=1e-12)
        if "cox_weighted" in expected:
            model = cox(self.time, self.event, self.treated, weights=weight, robust=True)
            check_cox(model, expected["cox_weighted"])
        if "km_weighted" in expected:
            curves = kaplan_meier(self.time, self.event, group=self.treated, weights=weight)
            check_rates(curves, expected["km_weighted"], {})


def propensity(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    study = Propensity(case, data)
    own = study.treated == 1
    model = study.model
    for key in expected:
        if key == "ps_model":
            for name, value in (
                ("terms", model.terms),
                ("coef", model.coef),
                ("se", model.se),
                ("deviance", model.deviance),
            ):
                expected[key][name].is_(value)
        elif key == "ps_first10":
            expected[key].is_(model.fitted[:10])
        elif key in ("n_treated", "n_control"):
            expected[key].is_(int(own.sum() if key == "n_treated" else (~own).sum()))
        elif key == "smd_before":
            study.smd(expected[key], None)
        elif key == "logit_sd":
            found = score_sds(model.linear, own)
            expected[key]["pooled_within"].is_(found["pooled"])
            expected[key]["all"].is_(found["all"])
            expected[key]["treated"].is_(found["treated"])
        elif key.endswith("_ps_scale_pairs"):
            caliper = study.options(key)["caliper"]
            on_score = match(study.treated, model.fitted, caliper=caliper)
            expected[key].is_(on_score.pairs)
            expected["ps_scale_caliper_abs"].is_(on_score.caliper)
        elif key.startswith(("nearest", "optimal")):
            study.matching(key, expected[key])
        elif key == "weights":
            for name in expected[key]:
                study.weighting(name, expected[key][name])
