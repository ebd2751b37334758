"""``cambist audit``: the hash-chained trail of operators' commands; beside a running exchange too."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cambist import __version__
from cambist.commands import Call, FailedError, UsageError
from cambist.home import HomeLock

_ACTIONS: Final = ("head", "verify", "ls", "export", "rebuild")


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``audit``."""
    actions = parser.add_subparsers(dest="action", metavar="|".join(_ACTIONS), required=True)
    head = _action(actions, "head", "newest record and its hash, to be kept outside the exchange")
    _json(head)
    verify = _action(actions, "verify", "compare the chain with the journal; exit status 1 where they differ")
    verify.add_argument(
        "--head", default="", metavar="HASH", help="a hash that `audit head` gave earlier; the chain must still have it"
    )
    _json(verify)
    listing = _action(actions, "ls", "records: who did what, when, why, and with what outcome")
    listing.add_argument("--account", metavar="ID", help="a number or a name")
    listing.add_argument("--who", metavar="NAME", help="the operator")
    listing.add_argument("--type", metavar="TYPE", help="such as DEPOSIT or HALT")
    _range(listing)
    _json(listing)
    export = _action(actions, "export", "commands, orders, fills, postings and chain of a range, with a verifier")
    what = export.add_mutually_exclusive_group(required=True)
    what.add_argument("--account", metavar="ID", help="what one account did and had; a number or a name")
    what.add_argument("--instrument", metavar="SYMBOL", help="the orders and fills of one instrument")
    what.add_argument("--all", action="store_true", help="everything")
    _range(export)
    export.add_argument("--compress", action="store_true", help="leave one file, DIR.tar.zst, in place of the folder")
    export.add_argument("directory", type=Path, metavar="DIR", help="must not exist")
    _json(export)
    rebuild = _action(
        actions, "rebuild", "put a damaged chain aside and write it again from the journal; the exchange is down"
    )
    _json(rebuild)


def _action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    # They are options of the command too; people write them at the end.
    parser.add_argument("--home", type=Path, metavar="DIR", default=argparse.SUPPRESS, help="folder of the instance")
    parser.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="configuration")
    return parser


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON on stdout: one object, for ls one a line")


def _range(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="first", metavar="SEQ|TIME", help="first command (default: the beginning)")
    parser.add_argument("--to", dest="last", metavar="SEQ|TIME", help="last command (default: the durable end)")


def run(name: str, call: Call) -> int:
    """Do the action."""
    from ringbuf.kernel_cache import configure as configure_kernel_cache

    configure_kernel_cache()
    from persistence.audit.chain import AuditDamaged
    from persistence.fused import EngineFault
    from persistence.journal.errors import JournalError

    try:
        return _DO[call.arguments.action](call)
    except (JournalError, EngineFault, AuditDamaged, OSError, LookupError) as error:
        raise FailedError(str(error)) from None


def _print_json(answer: dict[str, Any]) -> None:
    print(json.dumps(answer))


# --- head and verify --------------------------------------------------------------------------------------------------


def _head(call: Call) -> int:
    from persistence.audit.past import journal_id_of
    from persistence.audit.stored import stored_head

    home = call.home.path
    head = stored_head(home)
    if head is None:
        raise FailedError(f"{home}: no audit record is written yet")
    answer = {**head.as_dict(), "journal_id": journal_id_of(home).hex()}
    if call.arguments.json:
        _print_json(answer)
    else:
        print(f"record {head.number}, command {head.seq}")
        print(head.hash.hex())
    return 0


def _verify(call: Call) -> int:
    from persistence.audit.verify import verify

    given = call.arguments.head
    if given and (len(given) < 16 or len(given) > 64 or set(given.lower()) - set("0123456789abcdef")):
        raise UsageError(f"--head {given}: 16 to 64 hexadecimal digits, as `cambist audit head` prints them")
    answer = verify(call.home.path, given)
    if call.arguments.json:
        _print_json(answer)
    else:
        print(f"records in the chain {answer['records']}, in {answer['files']} files")
        print(f"commands replayed    {answer['first_seq']} to {answer['last_seq']}")
        if answer["pending"]:
            print(f"not yet in the chain {answer['pending']}")
        if answer["head_given"]:
            print(
                f"the head given is    record {answer['head_given']['number']}, command {answer['head_given']['seq']}"
            )
        print(f"head                 {answer['head']['hash']} (record {answer['head']['number']})")
        print(
            f"verdict              {'chain and journal agree' if answer['ok'] else 'DIFFERENT'} ({answer['seconds']} s)"
        )
    for problem in answer["problems"]:
        print(f"cambist audit verify: {problem}", file=sys.stderr)
    if answer["differences"] > len(answer["problems"]):
        print(f"cambist audit verify: {answer['differences']} differences in all", file=sys.stderr)
    return 0 if answer["ok"] else 1


def _rebuild(call: Call) -> int:
    from persistence.audit.rebuild import rebuild

    aside = f"audit.replaced-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with HomeLock(call.home):
        answer = rebuild(call.home.path, aside)
    if call.arguments.json:
        _print_json(answer)
    else:
        print(f"{answer['records']} records written; what was there is in {aside}")
    return 0


# --- ls ---------------------------------------------------------------------------------------------------------------


def _moment(text: str | None, option: str) -> Any:
    from persistence.moments import parse_moment

    if text is None:
        return None
    try:
        return parse_moment(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _account(call: Call) -> int | None:
    from gateway.control.names import FILE_NAME, NameBook

    text = call.arguments.account
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    number = NameBook(call.home.path / FILE_NAME).number(text)
    if number is None:
        raise FailedError(f"no account is named {text!r}")
    return number


def _list(call: Call) -> int:
    from persistence.audit.listing import selection, stored_records
    from persistence.moments import iso_time

    arguments = call.arguments
    kind = None if arguments.type is None else arguments.type.upper().replace("-", "_")
    chosen = selection(
        _account(call), arguments.who, kind, _moment(arguments.first, "--from"), _moment(arguments.last, "--to")
    )
    for record in stored_records(call.home.path):
        if not chosen(record):
            continue
        if arguments.json:
            print(json.dumps({**record, "time": iso_time(record["ts_ns"])}, ensure_ascii=False))
            continue
        outcome = record["outcome"]
        ended = "accepted" if outcome["accepted"] else outcome["reason"]
        told = " ".join(f"{name}={value}" for name, value in record["what"].items() if name not in _UNTOLD)
        print(
            f"{record['number']:>8} {record['seq']:>10} {iso_time(record['ts_ns'])[:-7]}Z {record['type']:<16} "
            f"{record['who'] or record['source']}: {record['why'] or '-'} | {told} | {ended}"
        )
    return 0


_UNTOLD: Final = frozenset({"asset", "instrument", "amount_units", "entry_ts_ns", "session"})


# --- export -----------------------------------------------------------------------------------------------------------


def _export(call: Call) -> int:
    from persistence.audit.export import Scope, export

    arguments = call.arguments
    if arguments.directory.exists():
        raise UsageError(f"{arguments.directory} is there already: name a folder that is not")
    scope = Scope(_account(call), arguments.instrument)
    first, last = _moment(arguments.first, "--from"), _moment(arguments.last, "--to")
    answer = export(
        call.home.path, arguments.directory, scope, first, last, compress=arguments.compress, program=__version__
    )
    if arguments.json:
        _print_json(answer)
    else:
        print(f"{answer['path']}: commands {answer['from_seq']} to {answer['to_seq']}")
        for name, file in answer["files"].items():
            print(f"  {name:<18} {file['rows']:>10} rows")
        print(f"manifest SHA-256 {answer['manifest_sha256']}: keep it where nobody who could change the archive can")
    return 0


_DO: Final[dict[str, Callable[[Call], int]]] = {
    "head": _head,
    "verify": _verify,
    "ls": _list,
    "export": _export,
    "rebuild": _rebuild,
}
