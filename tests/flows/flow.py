# ruff: noqa: B905, C408, E401, E741, FURB136, I001, N806, PTH103, PTH123
# mypy: ignore-errors
# Kept as published numbers were made with it; only the layout was changed.
"""Deterministic order-flow generator for comparing matching engines on identical input.

usage: python -m tests.flows.flow OUTDIR [--n 1000000] [--seed 1] [--only w1,w2,w3]

Writes OUTDIR/{w1,w2,w3}.bin and OUTDIR/{w1,w2,w3}.json (expected results).

File layout (little endian)
  header, 64 bytes: 8s magic "XFLOW001", u32 version=1, u32 record size=32,
     u64 n_prefill (records to apply before the clock starts), u64 n_total (prefill included),
     i64 price_min, i64 price_max, u64 max_id (largest order id), u64 seed
  records, 32 bytes: u64 order_id, i64 price (ticks), i64 qty (lots), u8 type, u8 side,
     u16 uid, u32 zero
     type 0 = new limit GTC, 1 = new limit IOC, 2 = cancel, 3 = replace price ("move")
     side 0 = buy, 1 = sell (also filled for cancel and move: the side of the order)
     qty on a cancel or a move is the quantity the order has left at that moment (informative)
     price on a cancel is the order's resting price (informative); on a move it is the new price

Semantics the expected results assume: price-time priority, trades at the maker's price, a GTC
that crosses is matched first and the rest of it rests, an IOC's rest is dropped, a move takes the
order off its level and re-enters it with what it has left at the back of the new level (it loses
time priority, and is matched if the new price crosses). No self-trade prevention: uids are
informative (16 users round robin). Cancels and moves always name an order that is resting.

Expected results (json): "checkpoints": for record counts n: trades, volume, turnover, hash (order
sensitive over trades: h = h*1099511628211 + maker_id*31 + taker_id*17 + price*7 + qty mod 2^64,
h0 = 14695981039346656037; hash and counters include the prefill), orders, bid_qty, ask_qty,
bid_levels, ask_levels, best_bid, best_ask.  "mix": what the timed part really held.

Only random.Random(seed).random() is used (its stream is fixed across Python versions).
"""

import argparse, json, os, random, struct, sys
from bisect import bisect_left, insort
import numpy as np

REC = np.dtype(
    [("id", "<u8"), ("price", "<i8"), ("qty", "<i8"), ("type", "u1"), ("side", "u1"), ("uid", "<u2"), ("z", "<u4")]
)
assert REC.itemsize == 32
MASK = (1 << 64) - 1


class Book:
    """Plain reference book: dict of FIFO dicts plus a sorted price list a side."""

    def __init__(self):
        self.lv = ({}, {})  # side -> price -> {id: qty}
        self.pr = ([], [])  # side -> sorted prices (ascending)
        self.od = {}  # id -> (side, price)
        self.live = []  # ids, unordered
        self.pos = {}
        self.trades = 0
        self.vol = 0
        self.turn = 0
        self.h = 14695981039346656037
        self.bq = [0, 0]

    def best(self, side):
        p = self.pr[side]
        return None if not p else (p[-1] if side == 0 else p[0])

    def _rest(self, oid, side, price, qty):
        l = self.lv[side].get(price)
        if l is None:
            l = self.lv[side][price] = {}
            insort(self.pr[side], price)
        l[oid] = qty
        self.od[oid] = (side, price)
        self.pos[oid] = len(self.live)
        self.live.append(oid)
        self.bq[side] += qty

    def _drop(self, oid):
        del self.od[oid]
        i = self.pos.pop(oid)
        last = self.live.pop()
        if last != oid:
            self.live[i] = last
            self.pos[last] = i

    def _droplevel(self, side, price):
        del self.lv[side][price]
        p = self.pr[side]
        del p[bisect_left(p, price)]

    def match(self, oid, side, price, qty):
        opp = 1 - side
        pr = self.pr[opp]
        lv = self.lv[opp]
        while qty and pr:
            bp = pr[0] if side == 0 else pr[-1]
            if (bp > price) if side == 0 else (bp < price):
                break
            l = lv[bp]
            while qty and l:
                mid = next(iter(l))
                mq = l[mid]
                q = mq if mq < qty else qty
                self.trades += 1
                self.vol += q
                self.turn += q * bp
                self.bq[opp] -= q
                self.h = (self.h * 1099511628211 + mid * 31 + oid * 17 + bp * 7 + q) & MASK
                qty -= q
                if q == mq:
                    del l[mid]
                    self._drop(mid)
                else:
                    l[mid] = mq - q
            if not l:
                self._droplevel(opp, bp)
        return qty

    def new(self, oid, side, price, qty, ioc):
        rest = self.match(oid, side, price, qty)
        if rest and not ioc:
            self._rest(oid, side, price, rest)

    def remove(self, oid):
        side, price = self.od[oid]
        l = self.lv[side][price]
        q = l.pop(oid)
        self.bq[side] -= q
        if not l:
            self._droplevel(side, price)
        self._drop(oid)
        return q

    def qty(self, oid):
        side, price = self.od[oid]
        return self.lv[side][price][oid]

    def move(self, oid, price):
        side = self.od[oid][0]
        q = self.remove(oid)
        rest = self.match(oid, side, price, q)
        if rest:
            self._rest(oid, side, price, rest)

    def state(self):
        return dict(
            trades=self.trades,
            volume=self.vol,
            turnover=self.turn,
            hash=str(self.h),
            orders=len(self.live),
            bid_qty=self.bq[0],
            ask_qty=self.bq[1],
            bid_levels=len(self.pr[0]),
            ask_levels=len(self.pr[1]),
            best_bid=self.best(0),
            best_ask=self.best(1),
        )


class Gen:
    def __init__(self, n, seed, target):
        self.b = Book()
        self.r = random.Random(seed).random
        self.n = n
        self.target = target
        self.rows = []
        self.next = 1
        self.ck = {}
        self.traded_msgs = 0
        self.mix = [0, 0, 0, 0]
        self.pre = 0
        self.orders_sum = 0
        self.levels_sum = 0
        self.samples = 0
        self.hit_levels = 0

    def emit(self, oid, price, qty, typ, side):
        self.rows.append((oid, price, qty, typ, side, oid & 15, 0))

    def new(self, side, price, qty, ioc=False):
        oid = self.next
        self.next += 1
        self.emit(oid, price, qty, 1 if ioc else 0, side)
        self.b.new(oid, side, price, qty, ioc)

    def cancel(self, oid):
        s, p = self.b.od[oid]
        self.emit(oid, p, self.b.lv[s][p][oid], 2, s)
        self.b.remove(oid)

    def move(self, oid, price):
        s, p = self.b.od[oid]
        self.emit(oid, price, self.b.lv[s][p][oid], 3, s)
        self.b.move(oid, price)

    def pick(self):
        return self.b.live[int(self.r() * len(self.b.live))]

    def geo(self, mean):
        # number of failures before the first success, by inversion of a coarse exponential
        u = self.r()
        k = 0
        p = 1.0 / (mean + 1.0)
        q = 1.0 - p
        acc = p
        t = p
        while u > acc and k < 50 * (mean + 1):
            t *= q
            acc += t
            k += 1
        return k

    def run(self, prefill, step, cks=(100_000, 300_000)):
        prefill()
        self.pre = len(self.rows)
        b = self.b
        want = self.pre + self.n
        cks = [self.pre + c for c in cks if c < self.n]
        while len(self.rows) < want:
            t0 = b.trades
            step()
            self.mix[self.rows[-1][3]] += 1
            if b.trades != t0:
                self.traded_msgs += 1
            n = len(self.rows)
            if n in cks:
                self.ck[n] = b.state()
            if n % 997 == 0:
                self.orders_sum += len(b.live)
                self.levels_sum += len(b.pr[0]) + len(b.pr[1])
                self.samples += 1
        self.ck[len(self.rows)] = b.state()


def w1(n, seed):
    """9% GTC, 3% IOC, 6% cancel, 82% move; ~1,000 orders over ~750 slots; ~6% of messages trade."""
    g = Gen(n, seed, 1000)
    b = g.b
    r = g.r
    S = dict(mid=100_000.0, kind=[], i=0)
    W = 900  # half width of the ladder, ticks

    def dist():  # 1..W, denser near the touch
        u = r()
        return 1 + int(W * (0.65 * u + 0.35 * u * u * u))

    def passive(side):
        m = int(S["mid"])
        p = m - dist() if side == 0 else m + dist()
        o = b.best(1 - side)  # never cross by accident
        if o is not None:
            p = min(p, o - 1) if side == 0 else max(p, o + 1)
        return p

    def prefill():
        for i in range(1000):
            g.new(i & 1, passive(i & 1), 1 + int(r() * 100))

    def step():
        S["mid"] = min(max(S["mid"] + (r() - 0.5) * 0.8, 99_000.0), 101_000.0)
        u = r()
        n_live = len(b.live)
        over = (n_live - g.target) / g.target  # controller: IOC size follows the book's size
        if u < 0.09:
            side = 0 if r() < 0.5 else 1
            g.new(side, passive(side), 1 + int(r() * 100))
        elif u < 0.12:
            side = 1 if b.bq[0] > b.bq[1] else 0  # hit the heavier side
            k = max(2, int(8 + 3000 * over))
            o = b.best(1 - side)
            g.new(side, o + 60 if side == 0 else o - 60, 1 + int(r() * 2 * k), True)
        elif u < 0.18:
            g.cancel(g.pick())
        else:
            oid = g.pick()
            side = b.od[oid][0]
            if r() < 0.028:  # a move that crosses: mostly small orders
                for _ in range(4):
                    o2 = g.pick()
                    if b.qty(o2) < b.qty(oid):
                        oid = o2
                side = b.od[oid][0]
                o = b.best(1 - side)
                d = int(r() * 3)
                g.move(oid, o + d if side == 0 else o - d)
            else:
                g.move(oid, passive(side))

    g.run(prefill, step)
    return g


def w2(n, seed):
    """48% new limit, 46% cancel, 4% aggressive, 2% replace; ~10,000 orders; random-walk mid."""
    g = Gen(n, seed, 10_000)
    b = g.b
    r = g.r
    S = dict(mid=100_000.0)
    recent = []

    def price(side):
        m = int(S["mid"])
        d = g.geo(12) if r() < 0.7 else g.geo(120)
        p = m - 1 - d if side == 0 else m + 1 + d
        o = b.best(1 - side)
        if o is not None:
            p = min(p, o - 1) if side == 0 else max(p, o + 1)
        return p

    def prefill():
        for i in range(10_000):
            g.new(i & 1, price(i & 1), 1 + int(r() * 200))

    def step():
        S["mid"] = min(max(S["mid"] + (r() - 0.5) * 0.6, 60_000.0), 140_000.0)
        u = r()
        over = (len(b.live) - g.target) / g.target
        if u < 0.48:
            side = 0 if r() < 0.5 else 1
            recent.append(g.next)
            if len(recent) > 64:
                del recent[:32]
            g.new(side, price(side), 1 + int(r() * 200))
        elif u < 0.94:
            oid = recent[int(r() * len(recent))] if recent and r() < 0.5 else 0
            g.cancel(oid if oid in b.od else g.pick())
        elif u < 0.98:  # aggressive: half IOC, half marketable GTC
            side = 1 if b.best(0) - S["mid"] > S["mid"] - b.best(1) else 0  # push the book back to mid
            if r() < 0.5:
                side = 1 if b.bq[0] > b.bq[1] else 0
            o = b.best(1 - side)
            q = 1 + int(r() * max(40, 160 + 4000 * over))
            d = int(r() * 8)
            g.new(side, o + d if side == 0 else o - d, q, r() < 0.5)
        else:
            oid = g.pick()
            g.move(oid, price(b.od[oid][0]))

    g.run(prefill, step)
    return g


def w3(n, seed):
    """50% new passive, 50% crossing GTC/IOC that touch 1..5 levels."""
    g = Gen(n, seed, 1000)
    b = g.b
    r = g.r
    S = dict(mid=100_000.0)
    CUM = ((0.72, 0.87, 0.94, 0.98, 1.0), (0.40, 0.65, 0.82, 0.93, 1.0))  # book below / above target

    def price(side):
        m = int(S["mid"])
        d = g.geo(600)
        p = m - 1 - d if side == 0 else m + 1 + d
        o = b.best(1 - side)
        if o is not None:
            p = min(p, o - 1) if side == 0 else max(p, o + 1)
        return p

    def prefill():
        for i in range(1000):
            g.new(i & 1, price(i & 1), 1 + int(r() * 100))

    def step():
        S["mid"] = min(max(S["mid"] + (r() - 0.5) * 0.8, 90_000.0), 110_000.0)
        if r() < 0.5 or len(b.pr[0]) < 6 or len(b.pr[1]) < 6:
            side = 0 if r() < 0.5 else 1
            g.new(side, price(side), 1 + int(r() * 100))
        else:
            side = 1 if b.bq[0] > b.bq[1] else 0
            u = r()
            k = 1
            hi = len(b.live) > g.target
            while u > CUM[hi][k - 1]:
                k += 1
            opp = 1 - side
            pr = b.pr[opp]
            q = 0
            for j in range(k):
                p = pr[j] if side == 0 else pr[-1 - j]
                lq = sum(b.lv[opp][p].values())
                if j < k - 1:
                    q += lq
                else:
                    q += 1 + int(r() * lq * (1.6 if hi else 0.6))
            g.new(side, p, q, r() < 0.5)

    g.run(prefill, step)
    return g


def main():
    a = argparse.ArgumentParser()
    a.add_argument("out")
    a.add_argument("--n", type=int, default=1_000_000)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--only", default="w1,w2,w3")
    a = a.parse_args()
    os.makedirs(a.out, exist_ok=True)
    for name in a.only.split(","):
        g = dict(w1=w1, w2=w2, w3=w3)[name](a.n, a.seed)
        arr = np.array(g.rows, dtype=REC)
        with open(f"{a.out}/{name}.bin", "wb") as f:
            f.write(
                struct.pack(
                    "<8sIIQQqqQQ",
                    b"XFLOW001",
                    1,
                    32,
                    g.pre,
                    len(arr),
                    int(arr["price"].min()),
                    int(arr["price"].max()),
                    g.next - 1,
                    a.seed,
                )
            )
            arr.tofile(f)
        t = arr[g.pre :]
        n = len(t)
        info = dict(
            workload=name,
            seed=a.seed,
            n_prefill=g.pre,
            n_total=len(arr),
            max_id=g.next - 1,
            price_min=int(arr["price"].min()),
            price_max=int(arr["price"].max()),
            mix=dict(zip(("gtc", "ioc", "cancel", "move"), [round(x / n, 4) for x in g.mix])),
            messages_that_trade=round(g.traded_msgs / n, 4),
            mean_resting_orders=round(g.orders_sum / max(1, g.samples)),
            mean_price_levels=round(g.levels_sum / max(1, g.samples)),
            checkpoints={str(k): v for k, v in g.ck.items()},
        )
        with open(f"{a.out}/{name}.json", "w") as f:
            json.dump(info, f, indent=1)
        print(json.dumps({k: v for k, v in info.items() if k != "checkpoints"}), g.ck[len(arr)], file=sys.stderr)


if __name__ == "__main__":
    main()
