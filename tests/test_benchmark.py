"""What bench/ measures is what it says: the references agree with independent ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Peer

from accel.benchmark import machine
from accel.benchmark.cases import PassCase, digits_fit
from accel.benchmark.contenders import accel_fit, accel_pass, scikit_learn_fit, two_pass_numpy

CASES = [PassCase(300, 17), PassCase(300, 17, 4), PassCase(300, 17, 4, "float64"), PassCase(1, 1)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_contenders_compute_the_case(backend, case):
    tolerance = {"float32": 1e-5, "float64": 1e-12}[case.dtype]
    assert case.error(accel_pass(case, backend.name)()) < tolerance
    assert case.error(two_pass_numpy(case)()) < tolerance


def test_a_wrong_result_has_an_error():
    case = CASES[0]
    value, gradient = case.reference
    assert case.error((value, gradient)) == 0
    assert case.error((value * 1.01, gradient)) == pytest.approx(0.01)
    assert case.error((value, gradient * 1.1)) == pytest.approx(0.1)


def test_the_stored_minimum_is_the_minimum():
    case = digits_fit()
    best = Peer(C=case.C, solver="newton-cg", tol=1e-12, max_iter=1000).fit(case.X, case.y)
    assert case.objective(best.coef_, best.intercept_) == pytest.approx(case.minimum, rel=1e-10)
    binary = Peer().fit(case.X, case.y == 1)
    pair = type(case)("b", case.X, (case.y == 1).astype(int), 1.0, 1e-4, 0.0)
    p = binary.predict_proba(case.X)[np.arange(len(case.y)), pair.y]
    wanted = -np.log(p).mean() + np.sum(binary.coef_**2) / (2 * len(p))
    assert pair.objective(binary.coef_, binary.intercept_) == pytest.approx(wanted)


def test_fit_contenders(backend):
    case = digits_fit()
    for call in (accel_fit(case, backend.name), scikit_learn_fit(case, "newton-cg")):
        model = call()
        assert case.objective(model.coef_, model.intercept_) / case.minimum - 1 < 1e-2


def test_machine_facts_are_json():
    facts = json.loads(json.dumps(machine.facts()))
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["cores"] >= 1
    assert any(report["name"] == "numpy" for report in facts["backends"])
