"""Run worked examples of the risk specification: ``python -m tests.risk_vectors FILE.json``.

Prints each example that does not come out as expected, then the functions that the exchange does not have yet, and in the last line how
many passed and failed. Exit status 1 where one failed.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.risk_vectors.functions import FUNCTIONS, NotYet


def run(cases: list[dict[str, Any]]) -> tuple[int, list[str], Counter[str]]:
    """How many passed, what is wrong with the others, and what is not there yet."""
    passed, wrong = 0, []
    missing: Counter[str] = Counter()
    for case in cases:
        function = FUNCTIONS.get(case["fn"])
        if function is None:
            missing[case["fn"]] += 1
            continue
        try:
            found = function(case["input"])
        except NotYet as what:
            missing[f"{case['fn']} ({what})"] += 1
            continue
        except Exception as error:  # noqa: BLE001 - an example must not hide those behind it
            found = f"{type(error).__name__}: {error}"
        if found == case["expected"]:
            passed += 1
        else:
            wrong.append(f"{case['id']}: expected {case['expected']}, got {found}")
    return passed, wrong, missing


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.risk_vectors", description=__doc__.split("\n", 1)[0])
    parser.add_argument("file", type=Path, metavar="FILE.json")
    try:
        cases = json.loads(parser.parse_args().file.read_text())["cases"]
    except (OSError, ValueError, KeyError) as error:
        print(f"the file has no vectors: {error!r}", file=sys.stderr)
        return 2
    passed, wrong, missing = run(cases)
    for line in wrong:
        print(line)
    if missing:
        print("not there yet: " + ", ".join(f"{name} {count}" for name, count in sorted(missing.items())))
    print(f"{passed} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
