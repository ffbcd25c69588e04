"""How each survival kind of the oracles is computed with Cantlie and compared."""

import re
from typing import Any

import numpy as np
import pandas as pd
from statistics_expected import Expected, same_digits
from statistics_formula import SurvivalModel, covariates, evaluate, event_indicator, r_name, survival_model

from cantlie.statistics.competing import cumulative_incidence, gray_test
from cantlie.statistics.cox import CoxModel, cox
from cantlie.statistics.cox_diagnostics import proportional_hazards_test
from cantlie.statistics.cox_firth import cox_firth
from cantlie.statistics.fine_gray import cause_specific_cox, fine_gray
from cantlie.statistics.fine_gray_rows import fine_gray_rows
from cantlie.statistics.guyot import reconstruct
from cantlie.statistics.landmark import immortal_time
from cantlie.statistics.logrank import LogRankTest, log_rank
from cantlie.statistics.rmst import compare_rmst
from cantlie.statistics.survival import KaplanMeier, follow_up, kaplan_meier

Case = dict[str, Any]
QUARTILES = (("median", 0.5), ("q25", 0.25), ("q75", 0.75))
CURVE_TYPES = ("plain", "log", "log-log")


def check_log_rank(test: LogRankTest, expected: Expected) -> None:
    labels = [r_name(group) for group in test.groups]
    order = [labels.index(str(group)) for group in expected["groups"].values]
    expected["groups"].done()
    for key, values in (("n", test.n), ("observed", test.observed), ("expected", test.expected)):
        expected[key].is_([values[i] for i in order])
    expected["chisq"].is_(test.statistic)
    expected["df"].is_(test.df)
    expected["p"].is_(test.p_value)


def check_curve(time: Any, event: Any, times: list[float], expected: Expected, **options: Any) -> None:
    for key in expected:
        if key in CURVE_TYPES:
            curve = kaplan_meier(time, event, confidence_type=key, **options).curves[0]
            for name, share in QUARTILES:
                found = curve.quantile(share)
                for suffix, value in (("", found.time), ("_lcl", found.lower), ("_ucl", found.upper)):
                    if name + suffix in expected[key]:
                        expected[key][name + suffix].is_(value)
            rates = curve.rates(times)
            for name, column in (("surv", "survival"), ("std_err", "std_err"), ("lower", "lower"), ("upper", "upper")):
                if name in expected[key]:
                    expected[key][name].is_(rates[column])
            if "n_risk" in expected:
                expected["n_risk"].is_(rates["n_risk"])
        elif key == "reverse_km_median_followup":
            found = follow_up(time, event, confidence_type=expected[key]["conf_type"].values).reverse_kaplan_meier
            expected[key]["median"].is_(found.time)
            expected[key]["lcl"].is_(found.lower)
            expected[key]["ucl"].is_(found.upper)
            expected[key]["conf_type"].done()
    expected["n"].is_(len(time))
    expected["events"].is_(int(np.sum(event)))
    if "times" in expected:
        expected["times"].is_(times)


def km(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    inputs = case["inputs"]
    columns = [evaluate(inputs["time"], data), event_indicator(evaluate(inputs["event"], data))]
    group = evaluate(inputs["group"], data) if inputs.get("group") else None
    frame = pd.concat([*columns, *([group] if group is not None else [])], axis=1, keys=["t", "d", "g"]).dropna()
    if "overall" in expected:
        check_curve(frame["t"], frame["d"], inputs["times"], expected["overall"])
    if "groups" in expected:
        names = frame["g"].map(r_name)
        for name in expected["groups"]:
            own = names == str(name)
            check_curve(frame["t"][own], frame["d"][own], inputs["times"], expected["groups"][name])
    weightings = {"logrank": {}, "peto_peto_rho1": {"weighting": "peto"}}
    for name in expected.part("test", ()):
        check_log_rank(log_rank(frame["t"], frame["d"], frame["g"], **weightings[name]), expected["test"][name])


def check_zph(model: CoxModel, expected: Expected) -> None:
    for transform in expected:
        wanted = expected[transform]
        by_term = wanted["terms"].values[:-1] != list(model.terms)
        test = proportional_hazards_test(model, transform=transform, by_term=by_term)
        wanted["terms"].is_(test.terms)
        wanted["chisq"].is_(test.chi2)
        wanted["df"].is_(test.df)
        wanted["p"].is_(test.p_value)


def check_cox(model: CoxModel, expected: Expected) -> None:
    values: dict[str, Any] = {
        "ties": model.ties, "n": model.n, "nevent": model.n_events, "terms": model.terms, "coef": model.coef,
        "se": model.se, "hr": model.hazard_ratio, "hr_lower": model.interval[:, 0], "hr_upper": model.interval[:, 1],
        "z": model.z, "p": model.p_value, "loglik_null": model.loglik_null, "loglik": model.loglik, "aic": model.aic,
        "concordance": model.concordance.index, "concordance_se": model.concordance.std_err,
        "se_naive": model.naive_se, "se_robust": model.se, "robust_se": model.se,
    }  # fmt: skip
    tests = {
        "lr_test": model.likelihood_ratio_test,
        "wald_test": model.wald_test,
        "score_test": model.score_test,
        "robust_score_test": model.robust_score_test,
    }
    for key in expected:
        if key == "loglik" and isinstance(expected[key].values, list):
            expected[key].is_([model.loglik_null, model.loglik])
        elif key in values:
            expected[key].is_(values[key])
        elif key in tests:
            expected[key]["chisq"].is_(tests[key].statistic)
            expected[key]["df"].is_(tests[key].df)
            expected[key]["p"].is_(tests[key].p_value)
        elif key == "robust_score" and model.robust_score_test is not None:
            expected[key].is_(model.robust_score_test.statistic)
        elif key == "zph":
            check_zph(model, expected[key])
        elif key == "basehaz_centered_false":
            check_baseline(model, expected[key])


def check_baseline(model: CoxModel, expected: Expected) -> None:
    table = model.baseline_hazard()
    strata = (
        expected["strata"].values if "strata" in expected else [table["stratum"].iloc[0]] * len(expected["time"].values)
    )
    for position, (stratum, time) in enumerate(zip(strata, expected["time"].values, strict=True)):
        own = table[table["stratum"].map(r_name) == str(stratum).split("=")[-1]]
        expected["hazard"][position].is_(float(own["hazard"][np.isclose(own["time"], time, rtol=1e-9)].iloc[0]))
    expected.done()


def fit(model: SurvivalModel, **options: Any) -> CoxModel:
    return cox(
        model.time, model.event, model.x, entry=model.entry, strata=model.strata, cluster=model.cluster, **options
    )


def cox_case(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    inputs = case["inputs"]
    model = survival_model(inputs["formula"], data, inputs.get("cluster"))
    options: dict[str, Any] = {}
    if inputs.get("weights"):
        options["weights"] = evaluate(inputs["weights"], model.data)
    methods = {"efron": "efron", "breslow": "breslow", "exact_discrete": "exact", "exact": "exact"}
    if not set(expected) & set(methods):
        ties = expected["ties"].values if "ties" in expected else "efron"
        check_cox(fit(model, ties=ties, **options), expected)
        if "km_clustered" in expected:
            check_curves(case, model, expected["km_clustered"])
        return
    for name in set(expected) & set(methods):
        check_cox(fit(model, ties=methods[name], **options), expected[name])


def check_curves(case: Case, model: SurvivalModel, expected: Expected) -> None:
    """Compare Kaplan–Meier rates of clustered data, listed as (stratum, time)."""
    variable = expected["strata"].values[0].split("=")[0]
    curves = kaplan_meier(model.time, model.event, group=evaluate(variable, model.data), cluster=model.cluster)
    check_rates(curves, expected, {"std_err_robust": "std_err", "lower": "lower", "upper": "upper"})


def check_rates(curves: KaplanMeier, expected: Expected, columns: dict[str, str]) -> None:
    by_label = {r_name(curve.label): curve for curve in curves.curves}
    rows = [
        by_label[stratum.split("=", 1)[1]].rates([time]).iloc[0]
        for stratum, time in zip(expected["strata"].values, expected["time"].values, strict=True)
    ]
    for key, column in {"surv": "survival", **columns}.items():
        if key in expected:
            expected[key].is_([row[column] for row in rows])
    expected["strata"].done()
    expected["time"].done()


def firth_cox(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    model = survival_model(case["inputs"]["formula"], data)
    firth = cox_firth(model.time, model.event, model.x, entry=model.entry, strata=model.strata)
    ordinary = fit(model, ties="breslow", infinite="note")
    values: dict[str, Any] = {
        "terms": firth.terms, "coef": firth.coef, "se": firth.se, "pl_lower_hr": firth.lower,
        "pl_upper_hr": firth.upper, "pl_p": firth.p_value, "loglik_null_fitted": [firth.loglik_null, firth.loglik],
        "unpenalised_coef": ordinary.coef, "ties": "Breslow", "ci": "profile penalised likelihood (HR scale)",
    }  # fmt: skip
    for key in set(expected) & set(values):
        expected[key].is_(values[key])


def coded(text: str, data: pd.DataFrame) -> pd.Series:
    """Read an event code such as ``ev`` or ``crev (status==2 ->1, status==1 ->2)``."""
    found = re.fullmatch(r"\w+\s*\((.*->.*)\)", text)
    if not found:
        return evaluate(text, data).astype(float)
    result = pd.Series(0.0, index=data.index)
    for rule in found.group(1).split(","):
        condition, code = rule.split("->")
        result[evaluate(condition.strip(), data).astype(bool)] = float(code)
    return result


def named(text: str, data: pd.DataFrame) -> tuple[str, pd.Series]:
    """Read a covariate such as ``age``, ``log(bili)`` or ``male(sex=='M')`` with the name that R printed."""
    found = re.fullmatch(r"(\w+)\((.*[=<>!].*)\)", text)
    if found:
        values = evaluate(found.group(2), data)
        unknown = data[[name for name in data.columns if re.search(rf"\b{re.escape(name)}\b", found.group(2))]].isna()
        return found.group(1), values.astype(float).where(~unknown.any(axis=1))
    return text.replace("(", "").replace(")", ""), covariates(text, data)[0].iloc[:, 0]


def competing_risks(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    inputs = case["inputs"]
    frame = pd.DataFrame({"t": evaluate(inputs["time"], data), "d": coded(inputs["event"], data)})
    frame["g"] = evaluate(inputs["group"], data)
    times = inputs["times"]
    rates = expected.part("cif", expected)
    if "times" in rates:
        rates["times"].is_(times)
    overall = cumulative_incidence(frame["t"], frame["d"])
    for key in rates["aj_overall"]:
        kind, cause = re.fullmatch(r"(cif|se|lower|upper)(\d)\w*", key).groups()  # type: ignore[union-attr]
        column = {"cif": "incidence", "se": "std_err"}.get(kind, kind)
        rates["aj_overall"][key].is_(overall.curve(int(cause)).rates(times)[column])
    if "naive_one_minus_km_event1" in rates:
        rates["naive_one_minus_km_event1"].is_(overall.curve(1).rates(times)["naive"])
    known = frame["g"].notna()
    grouped = cumulative_incidence(frame["t"][known], frame["d"][known], group=frame["g"][known], variance="aalen")
    by_name = {f"{r_name(curve.label)} {curve.cause}": curve.rates(times) for curve in grouped.curves}
    rates["cuminc"]["curves"].done()
    for position, name in enumerate(rates["cuminc"]["curves"].values):
        rates["cuminc"]["est"][position].is_(by_name[name]["incidence"])
        rates["cuminc"]["var"][position].is_(by_name[name]["std_err"] ** 2)
    for position, cause in enumerate(rates["gray"]["rows"].values):
        test = gray_test(frame["t"][known], frame["d"][known], frame["g"][known], cause=int(cause))
        rates["gray"]["stat"][position].is_(test.statistic)
        assert abs(test.p_value - rates["gray"]["p"].values[position]) <= 1e-6 * test.p_value
        assert test.df == rates["gray"]["df"].values[position]
        assert abs(test.statistic - rates["gray"]["stat"].values[position]) <= 1e-6 * test.statistic
    rates["gray"].done()
    regressions(case, data, frame, expected.part("regression", expected))


def regressions(case: Case, data: pd.DataFrame, frame: pd.DataFrame, expected: Expected) -> None:
    x = pd.DataFrame(dict(named(text, data) for text in case["inputs"]["covariates"]))
    kept = x.notna().all(axis=1)
    x, time, event = x[kept], frame["t"][kept], frame["d"][kept]
    if "crr_n" in case["inputs"]:
        assert len(x) == case["inputs"]["crr_n"]
    model = fine_gray(time, event, x)
    wanted = expected["finegray_crr"]
    values: dict[str, Any] = {
        "terms": model.terms, "coef": model.coef, "se": model.se, "shr": np.exp(model.coef),
        "lower": model.interval[:, 0], "upper": model.interval[:, 1], "loglik": model.loglik,
        "loglik_null": model.loglik_null, "converged": True, "predict_at": "column means of covariates",
        "predict": model.predict(case["inputs"]["times"]),
    }  # fmt: skip
    for key in set(wanted) & set(values):
        wanted[key].is_(values[key])
    # summary.crr prints p-values to two digits.
    assert all(same_digits(p, printed) for p, printed in zip(model.p_value, wanted["p"].values, strict=True))
    wanted["p"].done()
    for key in expected["cause_specific"]:
        check_cox(cause_specific_cox(time, event, x, cause=int(key[5:])), expected["cause_specific"][key])
    rows = fine_gray_rows(time, event)
    weighted = cox(
        rows["stop"], rows["event"], x.iloc[rows["row"]], entry=rows["start"], weights=rows["weight"], robust=True
    )
    expected["finegray_weighted_coxph"]["coef"].is_(weighted.coef)
    expected["finegray_weighted_coxph"]["coef"].is_(fine_gray(time, event, x, ties="efron").coef)
    expected["finegray_weighted_coxph"]["se_model"].is_(weighted.se)


def rmst(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    inputs = case["inputs"]
    if "arm" in inputs:
        survrm2(case, data, expected)
        return
    frame = pd.DataFrame({key: evaluate(inputs[key], data) for key in ("time", "event", "group")}).dropna()
    for part in expected:
        wanted = expected[part]
        found = compare_rmst(frame["time"], event_indicator(frame["event"]), frame["group"], tau=wanted["tau"].values)
        wanted["tau"].done()
        wanted["groups"].is_([r_name(group.label) for group in found.groups])
        wanted["rmst"].is_([group.rmst for group in found.groups])
        wanted["se"].is_([group.std_err for group in found.groups])
        difference, ratio = found.contrasts[:2]
        wanted["diff_g2_minus_g1"].is_(difference.estimate)
        wanted["diff_se"].is_(difference.std_err)
        wanted["diff_ci"].is_([difference.lower, difference.upper])
        wanted["p"].is_(difference.p_value)
        wanted["ratio"].is_(ratio.estimate)
        wanted["ratio_ci"].is_([ratio.lower, ratio.upper])


def survrm2(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    call = re.search(r"rmst2\((?:time\s*=\s*)?([\w.]+),\s*(?:status\s*=\s*)?([\w.]+)", case["r_call"])
    time, event = call.groups() if call else ("time", "event")
    arm = evaluate(case["inputs"]["arm"], data).astype(int)
    found = compare_rmst(data[time], event_indicator(data[event]), arm, tau=expected["tau"].values)
    expected["tau"].done()
    for code, group in enumerate(found.groups):
        for name, estimate, interval in (
            ("rmst", group.rmst, group.interval),
            ("rmtl", group.rmtl, group.rmtl_interval),
        ):
            wanted = expected[f"{name}_arm{code}"]
            for key, value in (
                ("Est.", estimate),
                ("se", group.std_err),
                ("lower .95", interval[0]),
                ("upper .95", interval[1]),
            ):
                wanted[key].is_(value)
    names = ["RMST (arm=1)-(arm=0)", "RMST (arm=1)/(arm=0)", "RMTL (arm=1)/(arm=0)"]
    for position, contrast in enumerate(found.contrasts):
        wanted = expected["contrasts"][position]
        wanted["name"].is_(names[position])
        wanted["Est."].is_(contrast.estimate)
        wanted["lower .95"].is_(contrast.lower)
        wanted["upper .95"].is_(contrast.upper)
        wanted["p"].is_(contrast.p_value)


def immortal(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    inputs = case["inputs"]
    time, event = evaluate(inputs["time"], data).astype(float), event_indicator(evaluate(inputs["event"], data))
    crowley = "survival::heart" in case["r_call"]
    rule = re.search(r"0\s*->\s*([\d.]+)", inputs.get("zero_time_rule", ""))
    if rule and not crowley:
        time = time.replace(0.0, float(rule.group(1)))
    found = immortal_time(
        time, event, evaluate(inputs["exposure_time"], data), landmark=inputs["landmark_day"], count_first_day=crowley
    )
    assert any("immortal" in note.message for note in found.notes)
    assert found.landmark is not None
    models = {"naive": found.naive, "time_dependent": found.time_dependent}
    models |= {key: found.landmark.model for key in expected if key.startswith("landmark")}
    for key, model in models.items():
        wanted = expected[key]
        for name, value in (("coef", model.coef[0]), ("hr", model.hazard_ratio[0]), ("hr_ci", model.interval[0])):
            if name in wanted:
                wanted[name].is_(value)
        if "n" in wanted:
            wanted["n"].is_(model.n)
            wanted["events"].is_(model.n_events)
            wanted["exposed"].is_(int(found.landmark.exposed.sum()))
        if "logrank" in wanted:
            check_log_rank(found.landmark.test, wanted["logrank"])


def guyot(case: Case, data: pd.DataFrame, expected: Expected) -> None:
    tolerance = case["tol"]
    second, first = re.fullmatch(r"(\S+) vs (\S+)", expected["contrast"].values).groups()  # type: ignore[union-attr]
    parts = []
    for label, given in case["inputs"].items():
        clicks = np.asarray(given["digitised"])
        found = reconstruct(
            clicks[:, 0], clicks[:, 1], given["risk_times"], given["n_risk"], total_events=given["total_events"]
        )
        curve = kaplan_meier(found.time, found.event).curves[0]
        assert found.time.size == given["true"]["n"]
        assert abs(found.event.sum() - given["total_events"]) <= tolerance["events_rel"] * given["total_events"]
        assert abs(curve.median.time - given["true"]["median"]) <= tolerance["median_rel"] * given["true"]["median"]
        inside = clicks[:, 0] <= found.time.max()
        assert np.abs(curve.rates(clicks[inside, 0])["survival"] - clicks[inside, 1]).max() <= tolerance["km_abs"]
        parts.append(found.table().assign(second=float(label == second), kept=label in (first, second)))
    everybody = pd.concat(parts)
    everybody = everybody[everybody["kept"]]
    model = cox(everybody["time"], everybody["event"], everybody[["second"]])
    assert abs(model.coef[0] - expected["cox_lnhr"].values) <= tolerance["lnhr_abs"]
    assert abs(model.se[0] - expected["se"].values) <= tolerance["lnhr_abs"] * expected["se"].values
    expected.done()
