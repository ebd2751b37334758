"""The worked examples that concern spot come out to the unit."""

import json
from pathlib import Path

from tests.risk_vectors.__main__ import run

CASES = json.loads(Path(__file__).with_name("vectors.json").read_text())["cases"]


def test_examples_of_spot_and_fees_come_out_to_the_unit() -> None:
    passed, wrong, missing = run(CASES)
    assert not wrong
    assert passed == 22
    assert {"spot_lock", "spot_trade", "eff_rate", "fee", "fee_tier", "stp", "price_band"}.isdisjoint(missing)


def test_wrong_example_is_told_by_its_name() -> None:
    case = {"id": "off by one", "fn": "eff_rate", "input": {"rate_e8": 99_999, "api_discount_e8": 5_000_000}}
    assert run([{**case, "expected": 94_999}])[1] == ["off by one: expected 94999, got 95000"]
