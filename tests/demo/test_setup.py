import json
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cambist.demo import plan, setup
from gateway.control.client import RefusedError
from gateway.control.messages import Reply, reason_error
from protocol import reasons

QUERIES = {"accounts", "assets", "instruments", "balance"}


class Gateway:
    """A control client without an exchange: tables of text, and the commands that changed them."""

    def __init__(self) -> None:
        self.assets: list[str] = []
        self.instruments: dict[str, dict[str, Any]] = {}
        self.accounts: dict[str, int] = {}
        self.amounts: dict[tuple[str, str], Decimal] = {}
        self.orders: list[dict[str, Any]] = []
        self.commands: list[str] = []
        self.dies_after = -1
        """Commands until it answers no more; -1 = never."""

    def call(self, op: str, args: dict[str, Any] | None = None, reason: str = "") -> dict[str, Any]:
        if op not in QUERIES:
            if self.dies_after == len(self.commands):
                raise RefusedError(Reply(1, ok=False, error=reason_error(reasons.ENGINE_DOWN)))
            assert reason, "an operator's command says why"
            self.commands.append(op)
        return dict(
            getattr(self, op)(**(args or {})) if op not in {"accounts", "assets", "instruments"} else self.rows(op)
        )

    def rows(self, op: str) -> dict[str, Any]:
        if op == "accounts":
            return {op: [{"name": name, "account": number} for name, number in self.accounts.items()]}
        if op == "assets":
            return {op: [{"asset": i, "symbol": symbol, "scale": 8} for i, symbol in enumerate(self.assets, 1)]}
        return {op: list(self.instruments.values())}

    def list_asset(self, symbol: str, scale: int) -> dict[str, Any]:
        assert symbol not in self.assets
        assert scale == plan.SCALE
        self.assets.append(symbol)
        return {}

    def list_instrument(self, symbol: str, maker: str, taker: str, **args: Any) -> dict[str, Any]:
        assert symbol not in self.instruments
        rates = {"maker_rate_e8": int(Decimal(maker) * 10**8), "taker_rate_e8": int(Decimal(taker) * 10**8)}
        number = len(self.instruments) + 1
        self.instruments[symbol] = {"symbol": symbol, "instrument": number, "last_price": None, **args, **rates}
        return {}

    def create_account(self, name: str) -> dict[str, Any]:
        assert name not in self.accounts
        self.accounts[name] = len(self.accounts) + 1
        return {}

    def deposit(self, account: str, asset: str, amount: str) -> dict[str, Any]:
        assert asset in self.assets
        self.amounts[account, asset] = self.amounts.get((account, asset), Decimal(0)) + Decimal(amount)
        return {}

    def balance(self, account: str) -> dict[str, Any]:
        rows = {asset: {"free": str(n), "locked": "0"} for (name, asset), n in self.amounts.items() if name == account}
        return {"balances": rows}

    def cancel_all(self, account: str, instrument: str) -> dict[str, Any]:
        self.orders = [
            order for order in self.orders if (account, instrument) != (order["account"], order["instrument"])
        ]
        return {}

    def order(self, **order: Any) -> dict[str, Any]:
        if order["side"] == "buy":
            (maker,) = self.orders
            assert (maker["price"], maker["qty"]) == (order["price"], order["qty"])
            self.instruments[order["instrument"]]["last_price"] = order["price"]
            self.orders = []
        else:
            self.orders.append(order)
        return {}


def state(gateway: Gateway) -> tuple[object, ...]:
    return gateway.assets, gateway.instruments, gateway.accounts, gateway.amounts, gateway.orders


@pytest.fixture(scope="module")
def whole() -> Gateway:
    """A gateway after one set-up."""
    gateway = Gateway()
    setup.set_up(gateway)
    return gateway


def test_first_start_lists_and_funds_what_the_contract_asks_for(whole: Gateway) -> None:
    assert {"BTCUSDT", "ETHUSDT", "SOLUSDT", "QUIETUSDT"} == whole.instruments.keys()
    quiet = whole.instruments["QUIETUSDT"]
    assert ("0.01", "0.0001", "100") == (quiet["tick_size"], quiet["lot_size"], quiet["last_price"])
    assert whole.orders == [], "its book is left empty"
    for name in ("alice", "bob", "carol"):
        assert all(whole.amounts[name, asset] > 0 for asset in plan.ASSETS)
    assert (Decimal(1_000_000), Decimal(100)) == (whole.amounts["alice", "USDT"], whole.amounts["alice", "BTC"])


def test_later_starts_change_nothing(whole: Gateway) -> None:
    commands = list(whole.commands)
    demo = setup.set_up(whole)
    assert commands == whole.commands
    assert demo == setup.read(whole)


def test_set_up_that_was_cut_short_anywhere_is_finished_by_the_next_start(whole: Gateway) -> None:
    for cut in range(len(whole.commands)):
        gateway = Gateway()
        gateway.dies_after = cut
        with pytest.raises(RefusedError):
            setup.set_up(gateway)
        gateway.dies_after = -1
        setup.set_up(gateway)
        assert state(whole) == state(gateway), f"cut after {cut} commands"


def test_house_account_that_spent_more_than_half_gets_it_again_and_users_do_not() -> None:
    gateway = Gateway()
    setup.set_up(gateway)
    commands = len(gateway.commands)
    gateway.amounts["maker-1", "USDT"] = Decimal(1)
    gateway.amounts["alice", "USDT"] = Decimal(1)
    setup.set_up(gateway)
    assert ["deposit"] == gateway.commands[commands:]
    assert (Decimal(10**9), Decimal(1)) == (gateway.amounts["maker-1", "USDT"], gateway.amounts["alice", "USDT"])


def test_demo_file_has_the_keys_of_the_contract_and_is_for_its_owner_only(whole: Gateway, tmp_path: Path) -> None:
    socket = tmp_path / "run" / "control.sock"
    setup.write(tmp_path, setup.read(whole), socket)
    path = tmp_path / "demo.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = json.loads(path.read_bytes())
    assert {"control", "instruments", "users"} == content.keys()
    assert str(socket) == content["control"]["socket"]
    quiet = next(row for row in content["instruments"] if row["symbol"] == "QUIETUSDT")
    expected = {"symbol": "QUIETUSDT", "kind": "spot", "tick_size": "0.01", "lot_size": "0.0001", "price": "100.00"}
    assert expected == quiet
    assert ["alice", "bob", "carol"] == [user["name"] for user in content["users"]]
    alice = content["users"][0]
    assert (1, "1000000", "100") == (alice["account"], alice["balances"]["USDT"], alice["balances"]["BTC"])
    assert [path] == list(tmp_path.iterdir()), "nothing is left of writing it"


def test_lively_instrument_without_a_trade_has_the_price_at_which_its_bots_begin(whole: Gateway) -> None:
    document = setup.document(setup.read(whole), Path("/s"), None)
    prices = {row["symbol"]: row["price"] for row in document["instruments"]}
    assert {"BTCUSDT": "60000.00", "ETHUSDT": "3000.00", "SOLUSDT": "150.00", "QUIETUSDT": "100.00"} == prices


def test_demo_without_its_control_gateway_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(setup.SetupError, match=r"leave control\.enabled on"):
        setup.prepare(tmp_path, None, lambda: False, control=False)


def test_gateway_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(setup.SetupError, match=r"did not answer for 0\.05 s: no exchange is running"):
        setup.prepare(tmp_path, None, lambda: False, patience_s=0.05)


def test_set_up_ends_when_told_to_stop(tmp_path: Path) -> None:
    assert setup.prepare(tmp_path, None, lambda: True) is None
