"""``cambist reconcile``: risk's balances, the database's balances and the sum of its postings are the same, to the unit."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from typing import Final

from cambist.commands import Call, FailedError
from cambist.home import HomeLock, is_held

_START_TIMEOUT_S: Final = 30.0


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of ``reconcile``."""
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(name: str, call: Call) -> int:
    """Compare; 1 where something differs, each difference on stderr."""
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    from persistence.fused import EngineFault
    from persistence.journal.errors import JournalError
    from persistence.postgres.database import UNREACHABLE, dsn_of, redacted
    from persistence.reconcile import NotReconciled, reconcile, told

    home, configured = call.home.path, call.config.postgres.dsn
    if not configured and not (home / "postgres").is_dir():
        raise FailedError(f"{home / 'postgres'}: the home has no database; is postgres.enabled false?")
    dsn = dsn_of(home, configured)
    try:
        with _server(call):
            answer = reconcile(home, dsn, call.config.engine_settings())
    except UNREACHABLE as error:
        raise FailedError(f"the database {redacted(dsn)} cannot be read: {error}") from None
    except (NotReconciled, JournalError, EngineFault, LookupError) as error:
        raise FailedError(str(error)) from None
    if call.arguments.json:
        print(json.dumps(answer))
    else:
        print(f"compared at command  {answer['seq']}")
        print(
            f"balances             {answer['balances']} of {answer['accounts']} accounts in {answer['assets']} assets"
        )
        live = answer["live"]
        if live is None:
            print("live tables          none: the exchange does not run")
        else:
            moving = f", {live['moving']} never stood still" if live["moving"] else ""
            print(f"live tables          {live['balances']} rows compared up to command {live['seq']}{moving}")
        verdict = "risk = database = postings" if answer["ok"] else "DIFFERENT"
        print(f"verdict              {verdict} ({answer['seconds']} s)")
    for difference in answer["differences"]:
        print(f"cambist reconcile: {told(difference)}", file=sys.stderr)
    if answer["difference_count"] > len(answer["differences"]):
        print(f"cambist reconcile: {answer['difference_count']} differences in all", file=sys.stderr)
    return 0 if answer["ok"] else 1


@contextlib.contextmanager
def _server(call: Call) -> Iterator[None]:
    """The embedded server of a stopped home runs while the context is open."""
    if call.config.postgres.dsn or is_held(call.home):
        yield
        return
    from persistence.postgres.cluster import Cluster, ClusterError

    cluster = Cluster(call.home.path)
    with HomeLock(call.home):
        try:
            process = cluster.start()
        except ClusterError as error:
            raise FailedError(str(error)) from None
        try:
            end_s = time.monotonic() + _START_TIMEOUT_S
            while not cluster.is_ready(process.pid):
                if process.poll() is not None or time.monotonic() > end_s:
                    raise FailedError(f"the embedded database server in {cluster.data} does not start")
                time.sleep(0.02)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(_START_TIMEOUT_S)
