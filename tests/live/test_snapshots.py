"""An exchange that writes snapshots while it trades, and is killed in part and as a whole: nothing is lost, and `verify` agrees."""

import json
import os
import signal
import threading
import time
from pathlib import Path

from gateway.control.client import ControlClient
from tests.live.support import cambist, cambist_here, settings_file, up

POLICE = "test"
_PATIENCE_S = 60


def test_snapshots_beside_trading_and_kills_of_the_engine_and_of_everything(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings_file(
        home, {"engine": {"checkpoint_interval_s": 1, "shards": 2}, "snapshots": {"interval_s": 1, "keep": 2}}
    )
    answered: list[int] = []
    ending = threading.Event()
    with up(home) as running:
        with ControlClient(home, operator=POLICE) as client:
            for asset, scale in (("USD", 6), ("ORE", 8)):
                client.call("list_asset", {"symbol": asset, "scale": scale}, POLICE)
            for symbol in ("OREUSD", "OREUSD2"):
                market = {"symbol": symbol, "base": "ORE", "quote": "USD", "tick_size": "0.01", "lot_size": "0.0001"}
                client.call("list_instrument", market, POLICE)
            client.call("create_account", {"name": "alice"}, POLICE)
            client.call("deposit", {"account": "alice", "asset": "USD", "amount": "1000000"}, POLICE)

            def trade() -> None:
                while not ending.is_set():
                    args = {"account": "alice", "instrument": "OREUSD", "side": "buy", "price": "1", "qty": "0.01"}
                    reply = client.request("order", args | {"instrument": ("OREUSD", "OREUSD2")[len(answered) % 2]})
                    if reply.ok and reply.result:
                        answered.append(reply.result["order_id"])
                    time.sleep(0.002)

            trader = threading.Thread(target=trade)
            trader.start()
            taken = json.loads(cambist_here("snapshot", "take", "--json", "--home", home).out)
            assert taken["ok"]
            assert (home / "snapshots" / f"{taken['seq']:015d}.mdb").stat().st_size == taken["bytes"]
            status = json.loads(cambist_here("status", "--json", "--home", home).out)
            assert taken["seq"] <= status["snapshots"]["seq"]
            (risk,) = [row["pid"] for row in status["processes"] if row["name"] == "risk"]
            os.kill(risk, signal.SIGKILL)
            before = len(answered)
            end_s = time.monotonic() + _PATIENCE_S
            while len(answered) < before + 50 and time.monotonic() < end_s:
                time.sleep(0.01)
            assert len(answered) >= before + 50, "trading goes on"
            epoch = json.loads(cambist_here("status", "--json", "--home", home).out)["epoch"]
            report = json.loads((running.shared / f"epoch-{epoch}" / "recovery.json").read_text())
            assert report["snapshot_seq"] >= taken["seq"]
            ending.set()
            trader.join()
        assert 0 == cambist("down", "--kill", "--home", home).status
    settings_file(home, {"engine": {"checkpoint_interval_s": 1, "shards": 1}})
    with up(home), ControlClient(home, operator=POLICE) as client:
        orders = {row["order_id"] for row in client.call("orders", {"account": "alice"})["orders"]}
        assert set(answered) - orders == set()
        assert 0 == cambist_here("verify", "--home", home).status
        listed = json.loads(cambist_here("snapshot", "ls", "--json", "--home", home).out)["snapshots"]
        assert 2 == listed[-1]["shards"]
    done = cambist_here("snapshot", "take", "--home", home)
    assert 0 == done.status, done.err
    verified = cambist_here("snapshot", "verify", "--json", "--home", home)
    assert 0 == verified.status, verified.err
    assert all(row["from_seq"] is not None for row in json.loads(verified.out)["snapshots"])
    newest = max((home / "snapshots").glob("*.mdb"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    damaged = cambist_here("snapshot", "ls", "--home", home)
    assert (1, True) == (damaged.status, "damaged: CRC32C" in damaged.err)
