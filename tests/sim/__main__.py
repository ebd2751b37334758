"""The deterministic simulator.

    python -m tests.sim --seeds A:B [--profile quick|faults|power|all]    seeds A to B - 1
    python -m tests.sim --mutants                                         bugs planted on purpose, each of which must be found

Prints each failing seed with the command that runs it alone, and last ``N passed, N failed``; exit status 1 where something failed.
From a thousand seeds on, a situation that was never met counts as failed too.
"""

import argparse
import sys

from tests.sim import mutants


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=_span, help="A:B, from A up to but not including B")
    parser.add_argument("--profile", choices=("quick", "faults", "power", "all"), default="all")
    parser.add_argument("--mutants", action="store_true", help="plant each known bug and find it")
    parser.add_argument("--mutant", choices=sorted(mutants.MUTANTS), help="run the seeds with this bug planted")
    options = parser.parse_args()
    if options.mutants:
        return mutants.hunt_all()
    if options.seeds is None:
        parser.error("say which seeds: --seeds A:B")
    if options.mutant:
        # Before anything of the product is imported.
        mutants.plant(mutants.MUTANTS[options.mutant])
    from tests.sim import campaign

    passed = failed = 0
    for profile in ("quick", "faults", "power") if options.profile == "all" else (options.profile,):
        done = campaign.run(profile, options.seeds, stop_after=1 if options.mutant else 10)
        print("\n".join(campaign.summary(done)), flush=True)
        missing = done.never_walked if done.seeds >= campaign.LONG_SEEDS else []
        passed += done.seeds - len(done.failed)
        failed += len(done.failed) + len(missing)
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


def _span(text: str) -> range:
    first, _, end = text.partition(":")
    seeds = range(int(first), int(end))
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text}: no seed; write FIRST:END, as in 0:100")
    return seeds


if __name__ == "__main__":
    sys.exit(main())
