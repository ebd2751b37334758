"""What a gateway pays to know who sends an order and whether they may: from the directory in memory, without a socket.

Each figure is one request: authentication, and ``may`` for placing an order on the account. HMAC and session tokens are what hot
paths use and may take ``LIMIT_NS``; Ed25519 and RSA stand beside them: they are for logons and for those who can wait. The limit is
the bare signature check, or the bare hash of the token, in the same run. Rate limits are one call each, and may take ``RATE_NS``. Not
measured: parsing, reading the address, the database.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from cambist.benches.rows import BenchFailedError, Row, Task, histogram, percentiles_of, row
from gateway.access import changes, keys
from gateway.access.authentication import Authenticator, token_hash
from gateway.access.directory import Directory
from gateway.access.records import Record, Session
from gateway.access.rights import TRADE, Principal, Verdict, may
from gateway.access.sealing import Seal
from gateway.rates import table as rate_table
from gateway.rates.limiter import ALLOWED, Limiter
from gateway.rates.rules import COUNT_MAX, RateLimits, Window
from gateway.rates.subjects import of_address, of_key
from ringbuf.atomics import fetch_add

LIMIT_NS: Final = 10_000
RATE_NS: Final = 2_000
HELD: Final = ("hmac", "session")
_NOW_NS: Final = 1_760_000_000_000_000_000
_DAY_NS: Final = 86_400_000_000_000
_USERS: Final = 1000
_REQUESTS: Final = {"hmac": 20_000, "session": 20_000, "ed25519": 2_000, "rsa": 2_000}
_RATES: Final = 50_000
_PAYLOAD: Final = (
    b"symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=60000.00&timestamp=1499827319559"
)

Asked = Callable[[], tuple[Verdict, Principal]]


def run(task: Task) -> list[Row]:
    """Rows of all cases; fails where a request that is right is denied."""
    directory, asked, bare = _directory()
    rows = []
    for case, count in _REQUESTS.items():
        task.progress(f"access {case}")
        runs = [_measured(directory, asked[case], count) for _ in range(task.runs)]
        medians = [float(np.median(times)) for times, _ in runs]
        least = float(np.median(_times(bare[case], count)))
        spread = percentiles_of(histogram(np.concatenate([times for times, _ in runs])))
        cpu_s = [cpu for _, cpu in runs]
        limit = ("the bare check, ns", least)
        allowed = {"allowed_ns": LIMIT_NS} if case in HELD else {}
        rows.append(row("access", case, "authenticate_ns", "ns", medians, cpu_s, limit, spread, **allowed))
    return rows + _rates(task)


def _rates(task: Task) -> list[Row]:
    """Rows of calls that count in a table as gateways share it; fails where a call within its limits is refused."""
    largest = (Window(60, COUNT_MAX),)
    settings = RateLimits(ip_weight=largest, ip_requests=largest, key_weight=largest, account_orders=largest)
    limiter = Limiter(rate_table.private(settings), settings)
    addresses = [of_address(f"203.0.113.{host}") for host in range(256)]
    signers = [of_key(f"key{number}") for number in range(256)]
    turn = itertools.count()

    def request() -> None:
        at = next(turn) & 255
        if limiter.check_request(addresses[at], signers[at], 2).code != ALLOWED:
            raise BenchFailedError("a request within its limits was refused")

    def order() -> None:
        if limiter.count_order(1 + (next(turn) & 255)).code != ALLOWED:
            raise BenchFailedError("an order within its limits was refused")

    cases: dict[str, Callable[[], object]] = {
        "rate request": request,
        "rate order": order,
        "rate give back": lambda: limiter.give_back(1 + (next(turn) & 255), 1),
    }
    word = np.zeros(1, dtype=np.int64)
    least = float(np.median(_times(lambda: fetch_add(word, 0, 1), _RATES)))
    rows = []
    for case, act in cases.items():
        task.progress(f"access {case}")
        times, cpu_s = [], []
        for _ in range(task.runs):
            began_s = time.process_time()
            times.append(_times(act, _RATES))
            cpu_s.append(time.process_time() - began_s)
        spread = percentiles_of(histogram(np.concatenate(times)))
        medians, limit = [float(np.median(run)) for run in times], ("one atomic count, ns", least)
        rows.append(row("access", case, "call_ns", "ns", medians, cpu_s, limit, spread, allowed_ns=RATE_NS))
    return rows


def _measured(directory: Directory, ask: Asked, count: int) -> tuple[np.ndarray, float]:
    """Times of requests in ns, and CPU seconds of all."""

    def request() -> None:
        verdict, principal = ask()
        if not (verdict.allowed and may(directory, principal, TRADE, 1, _NOW_NS).allowed):
            raise BenchFailedError(f"a request that is right was denied: {verdict.text}")

    began_s = time.process_time()
    times = _times(request, count)
    return times, time.process_time() - began_s


def _times(act: Callable[[], object], count: int) -> np.ndarray:
    """int64[count], ns of each call."""
    found = np.empty(count, dtype=np.int64)
    clock = time.perf_counter_ns
    for at in range(count):
        began_ns = clock()
        act()
        found[at] = clock() - began_ns
    return found


def _directory() -> tuple[Directory, dict[str, Asked], dict[str, Callable[[], object]]]:
    """Users with a key of each kind and a session for the first; how it asks, and the bare check of each case."""
    directory, seal = Directory(), Seal(bytes(32))
    where, allowed = keys.address("203.0.113.7"), ("198.51.100.0/24", "203.0.113.0/24")
    for number in range(1, _USERS + 1):
        name = f"user{number}"
        directory.put(changes.create_user(directory, name, "", _NOW_NS, temporary=False).rows)
        directory.put(changes.attach_account(directory, name, number, "").rows)
        directory.put([_key(directory, seal, name, f"hmac{number}", "hmac", allowed, secret=b"secret")])
    edwards, rivest = ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)
    pem, spki = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    for kind, public in (("ed25519", edwards.public_key()), ("rsa", rivest.public_key())):
        text = public.public_bytes(pem, spki).decode()
        directory.put([_key(directory, seal, "user1", kind, kind, allowed, public_pem=text)])
    token = "t" * 43
    session = Session(1, 1, token_hash(token), seen_ns=_NOW_NS, idle_ns=_DAY_NS, expires_ns=_NOW_NS + _DAY_NS)
    directory.put([session])
    authenticator = Authenticator(directory, seal)
    signature = hmac.digest(b"secret", _PAYLOAD, "sha256").hex()
    by_e, by_r = edwards.sign(_PAYLOAD), rivest.sign(_PAYLOAD, padding.PKCS1v15(), hashes.SHA256())

    def signed(key_id: str, text: str) -> Asked:
        return lambda: authenticator.key(key_id, _PAYLOAD, text, where, _NOW_NS)

    asked: dict[str, Asked] = {
        "hmac": signed("hmac1", signature),
        "session": lambda: authenticator.session(token, _NOW_NS),
        "ed25519": signed("ed25519", base64.b64encode(by_e).decode()),
        "rsa": signed("rsa", base64.b64encode(by_r).decode()),
    }
    edwards_key, rivest_key = edwards.public_key(), rivest.public_key()
    bare: dict[str, Callable[[], object]] = {
        "hmac": lambda: hmac.digest(b"secret", _PAYLOAD, "sha256"),
        "session": lambda: hashlib.sha256(token.encode()).digest(),
        "ed25519": lambda: edwards_key.verify(by_e, _PAYLOAD),
        "rsa": lambda: rivest_key.verify(by_r, _PAYLOAD, padding.PKCS1v15(), hashes.SHA256()),
    }
    return directory, asked, bare


def _key(
    directory: Directory,
    seal: Seal,
    user: str,
    key_id: str,
    kind: str,
    allowed: tuple[str, ...],
    secret: bytes = b"",
    public_pem: str = "",
) -> Record:
    change = changes.create_key(
        *(directory, user, kind),
        key_id=key_id,
        secret=secret,
        public_pem=public_pem,
        permissions=["trade"],
        networks=allowed,
        seal=seal,
        now_ns=_NOW_NS,
    )
    return change.rows[0]
