"""``python -m tests.cambist.exchange --home DIR``: a real supervisor over fake processes, for ``launch`` to start."""

import argparse
import sys
from pathlib import Path

from ringbuf.kernel_cache import configure

configure()

from cambist.config import FILE_NAME, load  # noqa: E402 - the kernel cache is configured before numba is imported
from cambist.home import Home, HomeError  # noqa: E402
from cambist.processes import ENGINE, FOLLOWER, GATEWAY, Process, Table  # noqa: E402
from cambist.report import ConsoleReporter, PipeReporter, Reporter  # noqa: E402
from cambist.supervisor import Supervisor  # noqa: E402
from protocol import board  # noqa: E402
from protocol.readers import LINE_RECOVERY  # noqa: E402

FAKE = "tests.cambist.fakes.process"


def table(home: Home) -> Table:
    socket = str(home.run / "control.sock")
    options = {"socket": socket}
    return Table(
        Process("recovery", "tests.cambist.fakes.recovery", ENGINE, LINE_RECOVERY),
        (
            Process("journal", FAKE, ENGINE, board.LINE_JOURNAL),
            Process("matcher-0", FAKE, ENGINE, board.LINE_FIRST_MATCHER),
            Process("risk", FAKE, ENGINE, board.LINE_RISK),
            Process("sequencer", FAKE, ENGINE, board.LINE_SEQUENCER),
        ),
        (
            Process("replica", FAKE, FOLLOWER, board.LINE_REPLICA),
            Process("control", "tests.cambist.fakes.gateway", GATEWAY, board.LINE_CONTROL, 0, options, socket),
        ),
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int, default=-1)
    parser.add_argument("--parent-fd", type=int, default=-1)
    arguments = parser.parse_args()
    home = Home(arguments.home)
    config = load(home.path / FILE_NAME, {}, required=False)
    reporter: Reporter = PipeReporter(arguments.ready_fd) if arguments.ready_fd >= 0 else ConsoleReporter()
    supervisor = Supervisor(home, config, table(home), reporter, parent_fd=arguments.parent_fd)
    try:
        return supervisor.run()
    except HomeError as error:
        reporter.failed(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
