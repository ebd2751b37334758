"""A limiter whose clock a test sets."""

from gateway.rates import table
from gateway.rates.limiter import Limiter
from gateway.rates.rules import RateLimits, Window

MS = 1_000_000
MIDNIGHT_MS = 1_800_000_000_000 // 86_400_000 * 86_400_000
SMALL = RateLimits(
    rows=64,
    ip_weight=(Window(60, 20),),
    ip_requests=(Window(300, 30),),
    ip_connections=(Window(300, 3),),
    key_weight=(Window(60, 25),),
    account_orders=(Window(10, 5), Window(86_400, 40)),
    account_logons=(Window(30, 2),),
    session_messages=(Window(10, 4),),
    sign_ins_of_name=(Window(300, 3),),
    sign_ins_from_peer=(Window(300, 6),),
    ban_after=4,
    ban_first_s=120,
    ban_max_s=1000,
)


class Clocked:
    """``limiter`` over a private table, and its clock ``now_ms``."""

    def __init__(self, settings: RateLimits = SMALL, seed: int = 1) -> None:
        self.now_ms = MIDNIGHT_MS
        self.limiter = Limiter(table.private(settings, seed), settings, lambda: self.now_ms * MS)

    def orders(self, account: int, count: int) -> list[int]:
        """Codes of orders, one after the other."""
        return [self.limiter.count_order(account).code for _ in range(count)]
