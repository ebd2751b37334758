"""``cambist up``: start the exchange."""

from __future__ import annotations

import argparse

from cambist.commands import Call, FailedError, option
from cambist.config import EngineSection
from cambist.home import RESTORED_USERS, HomeError
from cambist.launch import launch, up_command
from cambist.output import forgiving_output
from cambist.report import ConsoleReporter, PipeReporter, Reporter


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of ``up``."""
    option(
        parser, "up.demo", "--demo", action="store_true", help="with instruments, funded users and bots to play with"
    )
    option(parser, "up.detach", "--detach", action="store_true", help="return when every gateway accepts connections")
    option(parser, "limits.profile", "--profile", metavar="NAME", help="limits of clients: relaxed or standard")
    engine_options(parser)
    parser.add_argument("--ready-fd", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--parent-fd", type=int, default=-1, help=argparse.SUPPRESS)


def engine_options(parser: argparse.ArgumentParser) -> None:
    """Add what changes how the engine runs."""
    default = EngineSection()
    group = parser.add_argument_group("engine")
    for name, value, kind, metavar, text in (
        ("topology", default.topology, str, "split|fused", "processes of the engine"),
        ("shards", default.shards, int, "K", "number of matchers"),
        ("jitter", default.jitter, int, "SEED", "forced delays at each stage; 0: none"),
        ("wait", default.wait, str, "adaptive|yield|spin", "what idle processes do"),
        ("durability", default.durability, str, "sync|async", "when gateways speak"),
    ):
        option(group, f"engine.{name}", f"--{name}", type=kind, metavar=metavar, help=f"{text} (default {value})")


def run(name: str, call: Call) -> int:
    """Run the exchange in this process, or start one that stays behind (``--detach``)."""
    if call.config.postgres.enabled and (call.home.path / RESTORED_USERS).exists():
        _check_restored_users(call)
    if call.config.up.detach and call.arguments.ready_fd < 0:
        settings = {**call.overrides, "up.detach": False}
        call.home.make()
        command = up_command(call.home, settings, call.arguments.config)
        reporter = ConsoleReporter()
        launched = launch(command, call.home.log / "supervisor.log", reporter, detach=True)
        reporter.ready(launched.summary)
        return 0
    descriptor = call.arguments.ready_fd
    return _supervise(call, PipeReporter(descriptor) if descriptor >= 0 else ConsoleReporter())


def _check_restored_users(call: Call) -> None:
    from persistence.postgres.users import UsersError, check_waiting

    try:
        check_waiting(call.home.path)
    except UsersError as error:
        raise FailedError(str(error)) from None


def _supervise(call: Call, reporter: Reporter) -> int:
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    from cambist.processes import table
    from cambist.supervisor import Supervisor
    from gateway.listening.listener import ListeningError, check_listening
    from ringbuf.errors import RingError

    on_ready = on_second = None
    if call.config.up.demo:
        from cambist.demo.screen import Screen

        screen = Screen(call.home, call.config, reporter.line)
        on_ready, on_second = screen.ready, screen.second
    try:
        if call.home.holder() is None:
            check_listening("control", call.config.control.listening, call.home.path)
        supervisor = Supervisor(
            call.home,
            call.config,
            table(call.home, call.config),
            reporter,
            on_ready,
            on_second,
            parent_fd=call.arguments.parent_fd,
        )
        with forgiving_output():
            return supervisor.run()
    except (HomeError, ListeningError, RingError) as error:
        reporter.failed(str(error))
        return 1
