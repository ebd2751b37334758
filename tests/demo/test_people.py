"""The demo's people: registered once, their secrets kept in demo.json, made anew where that is lost."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from cambist.demo import people
from cambist.demo.people import NOBODY, People
from gateway.access.authentication import Authenticator
from gateway.access.keys import address
from gateway.access.rights import may
from gateway.control.desk import Seat
from protocol import enums as e
from tests.gateway.support import FakeView
from tests.gateway.test_desk import Office

ACCOUNTS = {"alice": 7, "bob": 8, "carol": 9}
HOME = address("127.0.0.1")


class Demo:
    """An office whose engine has the demo's accounts."""

    def __init__(self) -> None:
        self.office = Office()
        view = self.office.desk._catalog.view
        assert isinstance(view, FakeView)
        for number in ACCOUNTS.values():
            view.account_rows[number] = view.account_rows[7]._replace(account=number, status=e.ACCOUNT_OPEN)

    def call(self, op: str, args: dict[str, Any] | None = None, reason: str = "") -> dict[str, Any]:
        assert reason or args is None or op.endswith(("list", "show")), "who changes something says why"
        reply = self.office.ask(Seat(), op, args, "demo")
        assert reply.ok, reply
        return reply.result or {}


def test_every_user_has_a_password_and_keys_that_work() -> None:
    demo = Demo()
    made = people.set_up(demo.call, ACCOUNTS, NOBODY)
    cache = demo.office.cache
    authenticator = Authenticator(cache.directory, cache.seal)
    assert sorted(ACCOUNTS) == sorted(made.users)
    for name, account in ACCOUNTS.items():
        row = made.users[name]
        user = cache.directory.user(name)
        assert user is not None
        assert demo.office.desk._passwords.check(user, row["password"]).ok
        assert not user.temporary
        signature = hmac.new(row["api_secret"].encode(), b"x", hashlib.sha256).hexdigest()
        private: Any = serialization.load_pem_private_key(row["ed25519_private_pem"].encode(), None)
        by_e = base64.b64encode(private.sign(b"x")).decode()
        for verdict, principal in (
            authenticator.key(row["api_key"], b"x", signature, HOME, cache.now_ns),
            authenticator.key(row["ed25519_api_key"], b"x", by_e, HOME, cache.now_ns),
            authenticator.credential(
                *("fix", row["fix_username"], row["fix_password"], HOME, cache.now_ns, row["fix_comp_id"])
            ),
            authenticator.credential("binary", row["binary_user"], row["binary_secret"], HOME, cache.now_ns),
        ):
            assert verdict.allowed
            assert may(cache.directory, principal, "trade", account, cache.now_ns).allowed


def test_operator_of_the_demo_signs_in() -> None:
    demo = Demo()
    made = people.set_up(demo.call, ACCOUNTS, NOBODY)
    assert made.operator is not None
    assert 0 == demo.office.code(Seat(), "sign_in", made.operator, made.operator["name"])


def test_later_start_takes_the_secrets_from_the_file_and_makes_new_keys_without_it(tmp_path: Path) -> None:
    demo = Demo()
    made = people.set_up(demo.call, ACCOUNTS, NOBODY)
    file = tmp_path / "demo.json"
    users = [{"name": name, "account": 1, "balances": {}, **row} for name, row in made.users.items()]
    file.write_text(json.dumps({"users": users, "operator": made.operator}))
    count = len(demo.office.cache.directory.keys)
    assert made == people.set_up(demo.call, ACCOUNTS, people._former(file))
    assert count == len(demo.office.cache.directory.keys)
    assert NOBODY == people._former(tmp_path / "none")
    again = people.set_up(demo.call, ACCOUNTS, People({}, None))
    assert again.users["alice"]["api_key"] != made.users["alice"]["api_key"]
    assert None is again.users["alice"]["password"]
