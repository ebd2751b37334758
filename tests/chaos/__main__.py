"""``python -m tests.chaos --runs N --seed S``: N kills; a line for each, and in the end ``N passed, N failed``."""

import argparse
import sys
import time

from tests.chaos.campaign import rounds, run_round


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Kill real processes of an exchange under load and check what is left.",
    )
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="kills (default 50)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="who is killed when, and the load (default 1)")
    options = parser.parse_args()
    passed = failed = 0
    for name, setting, blows, seed in rounds(options.runs, options.seed):
        started_s = time.monotonic()
        result = run_round(name, setting, blows, seed)
        print(f"{name}, seed {seed} ({time.monotonic() - started_s:.0f} s)")
        for line in result.blows:
            print(f"  {line}")
        for line in result.wrong:
            print(f"  FAILED {line}")
        if result.facts:
            print("  " + ", ".join(f"{count} {what}" for what, count in result.facts.items()), flush=True)
        # What is found in the end may come from any kill of the round.
        if result.wrong:
            failed += len(blows)
        else:
            passed += len(blows)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
