"""A running exchange and a person at its control socket: orders, every named refusal, status, the end, a second start."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cambist import procfs
from cambist.home import Home
from gateway.control.client import ControlClient
from persistence.checkpoints import CHECKPOINTS_FILE, STRUCTURES, kept
from tests.live.support import cambist, cambist_here, settings_file, up

TABLES = {
    "accounts": 32,
    "assets": 4,
    "instruments": 4,
    "orders": 24,
    "leaves": 4,
    "withdrawal_holds": 8,
    "outbox": 4,
    "timers": 4,
}
POLICE = "test"
LARGEST = "9223372036854775807"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """An exchange with small tables, one market, and accounts in every state."""
    folder = tmp_path_factory.mktemp("control") / "home"
    settings_file(folder, {"tables": TABLES, "engine": {"checkpoint_interval_s": 1}})
    with up(folder) as running:
        with ControlClient(folder, operator=POLICE) as client:
            for asset, scale in (("USD", 6), ("ORE", 8)):
                client.call("list_asset", {"symbol": asset, "scale": scale}, POLICE)
            market = {
                "symbol": "OREUSD",
                "base": "ORE",
                "quote": "USD",
                "tick_size": "0.01",
                "lot_size": "0.0001",
                "taker": "0.001",
            }
            client.call("list_instrument", market, POLICE)
            client.call("list_instrument", market | {"symbol": "HALTED"}, POLICE)
            client.call("halt", {"instrument": "HALTED"}, POLICE)
            for name in ("alice", "bob", "frozen", "closed", "poor"):
                client.call("create_account", {"name": name}, POLICE)
            for name in ("alice", "bob", "frozen"):
                for asset in ("USD", "ORE"):
                    client.call("deposit", {"account": name, "asset": asset, "amount": "1000000"}, POLICE)
            client.call("freeze", {"account": "frozen"}, POLICE)
            client.call("close_account", {"account": "closed"}, POLICE)
        yield running


@pytest.fixture
def client(home: Home) -> Iterator[ControlClient]:
    """A connection; afterwards nothing rests, every process is the same as before, and the engine is what it was."""
    before = processes(home)
    with ControlClient(home.path, operator=POLICE) as connection:
        yield connection
        connection.call("cancel_all", {"instrument": "OREUSD"})
    assert before == processes(home), "a process died"


def processes(home: Home) -> dict[str, tuple[int, int]]:
    """Pid and start of every process by name."""
    table = json.loads(home.table_file.read_text())
    rows = {row["name"]: row["pid"] for row in table["processes"]} | {
        "supervisor": table["pid"],
        "forkserver": table["forkserver"],
    }
    found = {name: (pid, procfs.start_ticks(pid)) for name, pid in rows.items()}
    assert all(start for _, start in found.values()), found
    return found


def order(**changes: Any) -> dict[str, Any]:
    """A good limit order of alice, changed."""
    return {"account": "alice", "instrument": "OREUSD", "side": "buy", "qty": "1", "price": "10.00"} | changes


# --------------------------------------------------------------------------------------------------- the command line


def test_two_orders_on_the_command_line_trade_and_show_the_fill(home: Home) -> None:
    def call(*arguments: str) -> dict[str, Any]:
        done = cambist(*arguments, "--home", home.path, "--json")
        assert 0 == done.status, done.err
        return dict(done.json["result"])

    sold = call("order", "sell", "0.5", "OREUSD", "--price", "20.00", "--account", "bob")
    assert ("resting", "0.5") == (sold["state"], sold["leaves_qty"])
    book = call("book", "OREUSD")
    assert ("20", "0.5") == (book["asks"][0]["price"], book["asks"][0]["qty"])
    bought = call("order", "buy", "0.2", "OREUSD", "--price", "21.00", "--account", "alice")
    assert ("filled", "0.2", "20", 1) == tuple(bought[key] for key in ("state", "cum_qty", "avg_price", "fill_count"))
    assert bought["latency_ns"] > 0
    balance = call("balance", "bob")["balances"]
    assert ("1000004", "0") == (balance["USD"]["free"], balance["USD"]["locked"])
    assert "0.3" == balance["ORE"]["locked"]
    canceled = call("cancel", str(sold["order_id"]), "--account", "bob")
    assert ("canceled", "0.3") == (canceled["state"], canceled["canceled_qty"])


def test_a_refusal_on_the_command_line_is_status_1_with_its_name(home: Home) -> None:
    done = cambist("order", "buy", "1", "NOSUCH", "--price", "1", "--account", "alice", "--home", home.path)
    assert (1, "") == (done.status, done.out)
    assert "UNKNOWN_INSTRUMENT" in done.err


# ----------------------------------------------------------------------------------------------------- named refusals


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("UNKNOWN_INSTRUMENT", {"instrument": "NOSUCH"}),
        ("UNKNOWN_ACCOUNT", {"account": "nobody"}),
        ("UNKNOWN_ACCOUNT", {"account": 31}),
        ("UNKNOWN_ACCOUNT", {"account": 4_000_000_000}),
        ("UNKNOWN_ACCOUNT", {"account": -1}),
        ("BAD_QUANTITY", {"qty": "0"}),
        ("BAD_QUANTITY", {"qty": "-1"}),
        ("BAD_PRICE", {"price": "0"}),
        ("BAD_PRICE", {"price": "-0.01"}),
        ("OFF_TICK", {"price": "10.001"}),
        ("OFF_LOT", {"qty": "0.00015"}),
        ("RANGE", {"qty": LARGEST}),
        ("RANGE", {"price": LARGEST}),
        ("RANGE", {"qty": LARGEST, "price": LARGEST}),
        ("RANGE", {"qty": "100000000", "price": "10000000"}),
        ("MALFORMED", {"qty": "1" + "0" * 70}),
        ("MALFORMED", {"qty": "1e400"}),
        ("MALFORMED", {"qty": "NaN"}),
        ("MALFORMED", {"price": "ten"}),
        ("MALFORMED", {"qty": 1.5}),
        ("ACCOUNT_FROZEN", {"account": "frozen"}),
        ("ACCOUNT_CLOSED", {"account": "closed"}),
        ("INSTRUMENT_HALTED", {"instrument": "HALTED"}),
        ("INSUFFICIENT_FUNDS", {"account": "poor"}),
        ("INSUFFICIENT_FUNDS", {"qty": "100001", "price": "10.00"}),
        ("BAD_PRICE", {"type": "market", "price": None}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(f"{k}={str(v)[:12]}" for k, v in value.items()),
)
def test_a_bad_order_gets_its_named_refusal(client: ControlClient, reason: str, changes: dict[str, Any]) -> None:
    reply = client.request("order", order(**changes))
    assert reply.error is not None, reply
    assert reason == reply.error.name
    assert reply.error.text
    # The next one is served as ever.
    assert "resting" == client.call("order", order())["state"]


def test_an_order_too_many_is_refused_by_name_and_cancels_still_pass(client: ControlClient) -> None:
    placed = [client.request("order", order(qty="0.0001")) for _ in range(TABLES["orders"] + 3)]
    assert [None] * TABLES["orders"] + ["ORDER_POOL_FULL"] * 3 == [reply.error and reply.error.name for reply in placed]
    assert placed[0].result is not None
    assert "canceled" == client.call("cancel", {"account": "alice", "order_id": placed[0].result["order_id"]})["state"]
    assert "resting" == client.call("order", order(qty="0.0001"))["state"]


def test_a_price_range_too_many_is_refused_by_name(client: ControlClient) -> None:
    placed = [
        client.request("order", order(qty="0.0001", price=f"{10 * n}.00")) for n in range(1, TABLES["leaves"] + 4)
    ]
    names = [reply.error.name if reply.error else "" for reply in placed]
    assert "" == names[0]
    assert "BOOK_FULL" == names[-1]
    assert {"", "BOOK_FULL"} == set(names)
    balance = client.call("balance", {"account": "alice"})["balances"]["USD"]
    resting = client.call("orders", {"account": "alice"})["orders"]
    assert sum(float(row["price"]) * float(row["leaves_qty"]) for row in resting) == pytest.approx(
        float(balance["locked"])
    )


def test_a_hold_too_many_and_a_hold_that_is_not_there_are_refused_by_name(client: ControlClient) -> None:
    args = {"account": "bob", "asset": "USD", "amount": "1"}
    placed = [client.request("withdraw_hold", args, POLICE) for _ in range(TABLES["withdrawal_holds"] + 1)]
    assert [None] * TABLES["withdrawal_holds"] + ["HOLD_TABLE_FULL"] == [
        reply.error and reply.error.name for reply in placed
    ]
    for reply in placed[:-1]:
        assert reply.result is not None
        client.call("withdraw_release", {"account": "bob", "hold_id": reply.result["hold_id"]}, POLICE)
    again = client.request("withdraw_release", {"account": "bob", "hold_id": 1}, POLICE)
    assert again.error is not None
    assert "UNKNOWN_HOLD" == again.error.name


@pytest.mark.parametrize(
    ("op", "args", "reason"),
    [
        ("deposit", {"account": "bob", "asset": "USD", "amount": LARGEST}, "RANGE"),
        ("deposit", {"account": "bob", "asset": "USD", "amount": "0"}, "BAD_QUANTITY"),
        ("deposit", {"account": "bob", "asset": "GOLD", "amount": "1"}, "UNKNOWN_ASSET"),
        ("withdraw_hold", {"account": "poor", "asset": "USD", "amount": "1"}, "INSUFFICIENT_FUNDS"),
        ("cancel", {"account": "alice", "order_id": 5}, "UNKNOWN_ORDER"),
        ("create_account", {"account": 1}, "ACCOUNT_EXISTS"),
        ("close_account", {"account": "bob"}, "ACCOUNT_NOT_EMPTY"),
        ("set_fees", {"instrument": "OREUSD", "maker": "-0.002", "taker": "0.001"}, "BAD_FEE"),
    ],
)
def test_a_bad_operators_command_gets_its_named_refusal(
    client: ControlClient, op: str, args: dict[str, Any], reason: str
) -> None:
    reply = client.request(op, args, POLICE)
    assert reply.error is not None, reply
    assert reason == reply.error.name


# ------------------------------------------------------------------------------------------------------ the exchange


def test_status_has_processes_seqs_and_instruments(home: Home) -> None:
    with ControlClient(home.path, operator=POLICE) as client:
        seq = client.call("order", order(account="bob"))["seq"]
    end_s = time.monotonic() + 20
    while True:
        state = cambist_here("status", "--home", home.path, "--json").json
        if state["seqs"]["verified"] >= seq or time.monotonic() > end_s:
            break
    assert (True, True, "running") == (state["running"], state["ready"], state["engine"])
    names = {row["name"] for row in state["processes"]}
    assert {"supervisor", "forkserver", "sequencer", "risk", "matcher-0", "journal", "replica", "control"} == names
    for row in state["processes"]:
        assert {"name", "pid", "alive", "lag"} <= set(row)
        assert row["alive"], row
        os.kill(row["pid"], 0)
    for name in ("sequenced", "durable", "settled", "replicated", "verified"):
        assert state["seqs"][name] >= seq, name
    assert [("OREUSD", "open"), ("HALTED", "halted")] == [(row["symbol"], row["state"]) for row in state["instruments"]]
    checkpoints = kept(home.path / CHECKPOINTS_FILE)
    assert max(checkpoints) >= state["seqs"]["verified"]
    assert all({"seq", *STRUCTURES} == checkpoint.keys() for checkpoint in checkpoints.values())


def test_a_second_start_of_a_home_names_who_holds_it(home: Home) -> None:
    before = processes(home)
    done = cambist("up", "--detach", "--home", home.path)
    assert 1 == done.status
    assert str(before["supervisor"][0]) in done.err
    assert str(home.path) in done.err
    assert before == processes(home)


def test_an_idle_exchange_takes_next_to_no_processor_time(home: Home) -> None:
    """Some percent of one core. A process that never slept would have most of a core to itself, on a busy machine too."""
    pids = [pid for pid, _ in processes(home).values()]
    before_ns, began_s = sum(map(procfs.cpu_ns, pids)), time.monotonic()
    time.sleep(2)
    percent = (sum(map(procfs.cpu_ns, pids)) - before_ns) / (time.monotonic() - began_s) / 1e7
    assert percent < 40, f"all {len(pids)} processes together: {percent:.2f} % of a core"


def test_everything_is_there_again_after_a_stop_and_a_start(tmp_path: Path) -> None:
    settings_file(tmp_path / "home", {"tables": TABLES})
    with up(tmp_path / "home") as running, ControlClient(running.path, operator=POLICE) as client:
        client.call("list_asset", {"symbol": "USD", "scale": 6}, POLICE)
        client.call("create_account", {"name": "alice"}, POLICE)
        first = client.call("deposit", {"account": "alice", "asset": "USD", "amount": "12.5"}, POLICE)
        for _ in range(2):
            # The second time nothing runs: that is what was asked for.
            assert 0 == cambist("down", "--home", running.path).status
    with up(tmp_path / "home") as running, ControlClient(running.path, operator=POLICE) as client:
        assert "12.5" == client.call("balance", {"account": "alice"})["balances"]["USD"]["free"]
        second = client.call("deposit", {"account": "alice", "asset": "USD", "amount": "0.5"}, POLICE)
    assert "13" == second["free"]
    assert second["source_seq"] == first["source_seq"] + 2
    state = cambist_here("status", "--home", running.path, "--json")
    assert (1, False) == (state.status, state.json["running"])
    verified = cambist_here("verify", "--home", running.path, "--json")
    assert (0, True) == (verified.status, verified.json["conserved"]), verified.err


def test_a_client_order_id_stays_taken_across_a_kill_and_a_start(tmp_path: Path) -> None:
    """A lost reply, then a crash: the client asks again of another epoch, and is told of its order."""
    settings_file(tmp_path / "home", {"tables": TABLES | {"client_id_ttl_ms": 3_600_000}})
    args = {
        "account": "alice",
        "instrument": "OREUSD",
        "side": "buy",
        "price": "1",
        "qty": "2",
        "client_order_id": "c-1",
    }
    ioc = args | {"client_order_id": "c-2", "tif": "ioc"}
    with up(tmp_path / "home") as running, ControlClient(running.path, operator=POLICE) as client:
        for asset, scale in (("USD", 6), ("ORE", 8)):
            client.call("list_asset", {"symbol": asset, "scale": scale}, POLICE)
        market = {"symbol": "OREUSD", "base": "ORE", "quote": "USD", "tick_size": "0.01", "lot_size": "0.0001"}
        client.call("list_instrument", market, POLICE)
        client.call("create_account", {"name": "alice"}, POLICE)
        client.call("deposit", {"account": "alice", "asset": "USD", "amount": "12.5"}, POLICE)
        firsts = [client.call("order", order)["order_id"] for order in (args, ioc)]
        assert 0 == cambist("down", "--kill", "--home", running.path).status
    with up(tmp_path / "home") as running, ControlClient(running.path, operator=POLICE) as client:
        told = [client.request("order", order) for order in (args, ioc)]
        assert ["DUPLICATE_CLIENT_ID"] * 2 == [reply.error.name for reply in told if reply.error]
        found = [reply.result["first_order"] for reply in told if reply.result]
        assert list(zip(firsts, ("open", "expired"), strict=True)) == [(row["order_id"], row["state"]) for row in found]
        done = cambist("order", "buy", "2", "OREUSD", "--price", "1", "--account", "alice", "--client-order-id", "c-1",
                       "--home", running.path)  # fmt: skip
        assert 1 == done.status
        assert f"order {firsts[0]} on OREUSD has it and is open, 2 left" in done.err
        status = cambist_here("status", "--home", running.path)
        assert "client order ids: taken for 3600 s after the end, the table covers 3600 s" in status.out
    assert 0 == cambist_here("verify", "--home", running.path).status


def test_a_request_of_any_shape_is_answered(client: ControlClient) -> None:
    for text in (
        "{",
        "[]",
        '{"id": 1, "op": "order", "args": {"qty": [[[]]]}}',
        '{"op": 5}',
        "\x00\x01",
        '{"id": 1, "op": "fly"}',
    ):
        client._socket.sendall(text.encode() + b"\n")
        reply = msgspec.json.decode(client._line())
        assert "MALFORMED" == reply["error"]["name"], text
    assert client.call("status")
