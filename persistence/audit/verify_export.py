"""Checks an audit export of Cambist with nothing but Python's standard library (3.10 or later).

    python3 verify_export.py [FOLDER] [--manifest SHA256]

Reads every file of the archive and computes everything again that follows from something else in it: hashes, the audit chain, orders,
fills, fees, postings, balances. Prints what it checked. Exit status 1 with the first problem, 0 where there is none.

How it works: ``check_files`` compares files with the manifest, ``Chain`` walks audit.log, and ``Ledger`` walks all tables together,
one command (seq) at a time, in the order in which the exchange executed them. Each outcome says what happened; from that, the orders'
own terms and the instrument's numbers, the ledger computes which postings there must be, and what balances are afterwards.
"""

import argparse
import csv
import hashlib
import itertools
import json
import sys
from pathlib import Path

E8 = 100_000_000
MONEY = ("DEPOSIT", "WITHDRAW_HOLD", "WITHDRAW_SETTLE", "WITHDRAW_RELEASE", "ADJUST", "TRANSFER")
ADMIN = (
    *MONEY,
    *("SET_FEES", "FREEZE", "UNFREEZE", "HALT", "RESUME", "CREATE_ACCOUNT", "CLOSE_ACCOUNT"),
    *("LIST_ASSET", "LIST_INSTRUMENT", "SET_BANDS", "SET_TIMER"),
    *("SET_SCHEDULE", "ASSIGN_FEES", "SET_VOLUME_RATE", "SET_GROUPS", "SET_LIMITS", "KILL", "REVIVE", "SET_STATE"),
)
QUOTE_ASK = 1 << 39  # bit of the ask's order id; the bid's is that of the quote's slot
AUCTIONS = ("SET_STATE", "RESUME")
NEW_ORDERS = ("LIMIT", "MARKET", "MARKET_AMOUNT")
EVENTS = ("NEW", "RESTED", "REPLACED", "CANCELED", "EXPIRED", "PREVENTED", "REJECTED", "DONE", "TRIGGERED", "PEGGED")
OF_OTHERS = ("CANCELED", "PREVENTED", "DONE", "REJECTED", "PEGGED")
SOURCES = {"sequencer": 0, "risk": 1, "control": 2, "replay": 3, "bots": 4}
RENAMED = {"amount_units": "qty_lots", "hold_id": "order_id", "taker_rate_e8": "qty_lots", "end_ts_ns": "qty_lots"}
RENAMED.update({"maker_rate_e8": "price_ticks", "period_ns": "price_ticks", "phase_ns": "qty_lots"})
RENAMED.update(
    dict.fromkeys(("effective_ts_ns", "scope", "state", "volume_rate_e8", "master"), "price_ticks"), schedule="qty_lots"
)


class Problem(Exception):
    """Something does not fit; the text says where and what."""


def need(truth, where, what):
    """Raise Problem where ``truth`` is false."""
    if not truth:
        raise Problem(f"{where}: {what}")


def same(found, wanted, where, what):
    """Raise Problem where two values differ."""
    if found != wanted:
        raise Problem(f"{where}: {what} is {found}, it must be {wanted}")


def value(text):
    """A number where the text is one, else the text."""
    body = text[1:] if text[:1] == "-" else text
    return int(text) if body.isdigit() and (body == "0" or body[0] != "0") else text


TEXTS = ("who", "why", "client_order_id", "symbol")


def table(folder, file_name):
    """Rows of a CSV file as dicts, with the place of each under "@"; nothing where the scope has no such file."""
    path = folder / file_name
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            need(None not in row and None not in row.values(), f"{file_name}:{number}", "a row of another length")
            yield {name: text if name in TEXTS else value(text) for name, text in row.items()} | {
                "@": f"{file_name}:{number}"
            }


class Cursor:
    """Rows in ascending order of their key, taken by key."""

    def __init__(self, rows, *key):
        self.rows, self.key, self.last = iter(rows), key, None
        self.count = 0
        self.next = next(self.rows, None)

    def seq(self):
        """Of the next row, or None at the end."""
        return None if self.next is None else self.next["seq"]

    def take(self, seq):
        """All rows of the command ``seq``."""
        rows = []
        while self.next is not None and self.next["seq"] == seq:
            key = tuple(self.next[name] for name in self.key)
            need(self.last is None or key > self.last, self.next["@"], "out of order, or there twice")
            self.last = key
            rows.append(self.next)
            self.count += 1
            self.next = next(self.rows, None)
        need(self.next is None or self.next["seq"] > seq, (self.next or {}).get("@"), "out of order")
        return rows


# --- files and chain --------------------------------------------------------------------------------------------------


def check_files(folder, given):
    """The manifest, and every file against it."""
    data = (folder / "manifest.json").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    need(not given or digest == given.lower(), "manifest.json", f"its SHA-256 is {digest}, not the one given")
    manifest = json.loads(data)
    same(manifest["format"], 2, "manifest.json", "format")
    there = {path.name for path in folder.iterdir()} - {"manifest.json"}
    same(sorted(there), sorted(manifest["files"]), str(folder), "the list of files")
    rows = 0
    for name, stated in manifest["files"].items():
        sha, size, lines = hashlib.sha256(), 0, 0
        with (folder / name).open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                sha.update(block)
                size += len(block)
                lines += block.count(b"\n")
        same(sha.hexdigest(), stated["sha256"], name, "SHA-256")
        same(size, stated["bytes"], name, "size in bytes")
        if name.endswith(".csv"):
            lines = sum(1 for _ in table(folder, name))
        same(lines, stated["rows"], name, "number of rows")
        rows += lines
    print(f"files     {len(there)} files, {rows} rows: SHA-256, sizes and counts as the manifest states")
    print(f"          manifest SHA-256 {digest}")
    return manifest


def chain(folder, manifest):
    """Walk audit.log link by link; gives its records (of hidden ones only their hash is there, and nothing comes)."""
    stated = manifest["audit"]
    before = bytes.fromhex(stated["hash_before"])
    shown = count = last = 0
    if stated["first_number"] == 1:
        start = hashlib.sha256(b"cambist audit 1 " + manifest["journal_id"].encode()).hexdigest()
        same(stated["hash_before"], start, "manifest.json", "hash before record 1 (made of the journal's id)")
    with (folder / "audit.log").open("rb") as file:
        for line in file:
            count += 1
            where = f"audit.log:{count}"
            digest, text = line[:64].decode(), line[65:-1]
            if text.startswith(b"sha256:"):
                content = bytes.fromhex(text[7:].decode())
            else:
                content = hashlib.sha256(text).digest()
            before = hashlib.sha256(before + content).digest()
            same(digest, before.hex(), where, "the hash behind the record before it")
            if text.startswith(b"sha256:"):
                continue
            record = json.loads(text)
            plain = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
            same(text, plain, where, "the record's canonical form")
            same(record["number"], stated["first_number"] + count - 1, where, "number")
            need(last < record["seq"], where, f"command {record['seq']} is not behind the record before")
            need(manifest["from_seq"] <= record["seq"] <= manifest["to_seq"], where, "a command outside the range")
            last = record["seq"]
            shown += 1
            yield dict(record, **{"@": where})
    same(count, stated["records"], "audit.log", "number of records")
    same(before.hex(), stated["hash_after"], "audit.log", "hash behind the last record")
    print(
        f"chain     {count} records ({shown} shown) linked from {stated['hash_before'][:16]}… to {before.hex()[:16]}…"
    )


# --- the ledger -------------------------------------------------------------------------------------------------------


class Ledger:
    """Everything that follows from the outcomes, computed again."""

    def __init__(self, folder, manifest):
        self.folder, self.manifest = folder, manifest
        self.scope = manifest["scope"]
        self.everything = self.scope["account"] is None and self.scope["instrument"] is None
        self.has_balances = self.scope["instrument"] is None
        self.assets = {row["asset"]: row for row in table(folder, "assets.csv")}
        self.instruments = {row["instrument"]: row for row in table(folder, "instruments.csv")}
        for row in self.instruments.values():
            base, quote = self.assets[row["base"]]["scale"], self.assets[row["quote"]]["scale"]
            left, right = row["multiplier"] * E8 * 10**base, row["tick_e8"] * row["lot_atoms"] * 10**quote
            same(left, right, row["@"], "multiplier * 1e8 * 10^base scale (by tick, lot and quote scale)")
        self.rates, self.orders, self.holds = {}, {}, {}
        self.rules = {(row["rule"], row["tier"]): row for row in table(folder, "rules.csv")}
        self.balance, self.closing = {}, {}
        self.clearing, self.removed = {}, 0
        self.fired = (0, 0)  # command, and the order that it set off last
        self.counts = {"orders": 0, "fills": 0, "postings": 0, "refusals": 0, "balances": 0}
        self.last_ts = self.least_seq = 0
        self.list_head = None
        self.numbers = {}
        self.next_seq = manifest["from_seq"]
        for row in table(folder, "balances.csv"):
            for bucket in ("free", "locked"):
                key = (row["account"], bucket, row["asset"])
                need(key not in self.balance, row["@"], "a balance that is there twice")
                known = row["account"] in ("EXTERNAL", "FEE") or isinstance(row["account"], int)
                need(known, row["@"], "an unknown account")
                need(row["asset"] in self.assets, row["@"], "an unknown asset")
                self.balance[key] = row[f"opening_{bucket}_units"]
                self.closing[key] = (row[f"closing_{bucket}_units"], row["@"])
        for row in table(folder, "open_orders.csv"):
            if row["at"] == "opening":
                self.orders[row["order_id"]] = dict(row, type="LIMIT")
                self.check_open(row)
        for row in table(folder, "open_withdrawals.csv"):
            if row["at"] == "opening":
                self.holds[row["hold_id"]] = row
        self.check_locked("at the opening")

    def check_open(self, row):
        """An open order holds what its price and its rest say."""
        left = row["qty_lots"] - row["cum_qty_lots"] - row["prevented_lots"]
        same(row["leaves_qty_lots"], left, row["@"], "leaves_qty_lots")
        same(row["locked_units"], self.hold_of(row, left), row["@"], "locked_units")

    def hold_of(self, order, lots):
        """Units that a limit order of so many lots locks."""
        instrument = self.instruments[order["instrument"]]
        if order["side"] == "BUY":
            return order["price_ticks"] * lots * instrument["multiplier"]
        return lots * instrument["lot_atoms"]

    def paid_and_got(self, order):
        """Assets that an order pays with and receives."""
        instrument = self.instruments[order["instrument"]]
        pair = (instrument["quote"], instrument["base"])
        return pair if order["side"] == "BUY" else pair[::-1]

    def check_locked(self, when):
        """What is locked is what open orders and withdrawals hold."""
        if not self.has_balances:
            return
        held = {}
        for order in self.orders.values():
            key = (order["account"], self.paid_and_got(order)[0])
            held[key] = held.get(key, 0) + order["locked_units"]
        for hold in self.holds.values():
            key = (hold["account"], hold["asset"])
            held[key] = held.get(key, 0) + hold["amount_units"]
        for (account, bucket, asset), units in self.balance.items():
            if bucket == "locked":
                same(
                    units,
                    held.pop((account, asset), 0),
                    f"balances {when}",
                    f"locked of account {account}, asset {asset}",
                )
        need(
            not any(held.values()), f"balances {when}", f"orders or withdrawals hold what no balance has locked: {held}"
        )

    # --- the walk

    def walk(self):
        """All tables together, one command at a time."""
        folder = self.folder
        commands = Cursor(table(folder, "commands.csv"), "seq")
        records = Cursor(chain(folder, self.manifest), "seq")
        rates = Cursor(table(folder, "rates.csv"), "seq", "instrument")
        outcomes = [Cursor(table(folder, name), "seq", "index") for name in ("orders.csv", "fills.csv", "money.csv")]
        postings = Cursor(table(folder, "postings.csv"), "seq", "index", "leg")
        cursors = [commands, records, rates, postings, *outcomes]
        while True:
            seqs = [cursor.seq() for cursor in cursors if cursor.seq() is not None]
            if not seqs:
                break
            self.command(
                min(seqs),
                *(cursor.take(min(seqs)) for cursor in (commands, records, rates, postings)),
                [row for cursor in outcomes for row in cursor.take(min(seqs))],
            )
        if self.everything:
            same(self.next_seq, self.manifest["to_seq"] + 1, "commands.csv", "the seq behind the last command")
        self.end()
        return {"commands": commands.count, **self.counts}

    def command(self, seq, commands, records, rates, postings, outcomes):
        """One command with all that came of it."""
        first, last = self.manifest["from_seq"], self.manifest["to_seq"]
        for row in commands + postings + outcomes:
            need(first <= seq <= last, row["@"], "a command outside the range")
        times = {row["ts_ns"] for row in commands + records + postings + outcomes}
        where = (commands + records + rates + outcomes + postings)[0]["@"]
        need(len(times) < 2, where, f"rows of command {seq} have different times")
        if times:
            need(self.last_ts <= min(times), where, "the time falls")
            self.last_ts = min(times)
        if commands and commands[0]["slots"] == 0:
            self.check_further(commands[0], records + rates + outcomes + postings)
            return
        for row in rates:
            need(records or seq == first - 1, row["@"], "a fee that no record of the trail sets")
            need(row["instrument"] in self.instruments, row["@"], "an unknown instrument")
            self.rates[row["instrument"]] = (row["maker_rate_e8"], row["taker_rate_e8"])
        command = commands[0] if commands else None
        outcomes.sort(key=lambda row: row["index"])
        if self.everything and (seq >= first):
            need(command, where, f"command {seq} is missing in commands.csv")
            same(seq, self.next_seq, command["@"], "seq")
            self.next_seq = seq + command["slots"]
        if command:
            self.check_command(command, records, outcomes)
        if records:
            self.check_record(records[0], command, rates, outcomes)
        for one, other in itertools.pairwise(outcomes):
            need(one["index"] < other["index"], other["@"], "two outcomes with one index")
        by_index = {}
        for row in postings:
            by_index.setdefault(row["index"], []).append(row)
        self.clearing, self.removed = {}, 0
        self.outcomes(outcomes, by_index, command)
        for rows in by_index.values():
            raise Problem(f"{rows[0]['@']}: postings of an outcome that is not there")
        if self.scope["account"] is None:
            need(not any(self.clearing.values()), where, f"command {seq} leaves {self.clearing} in CLEARING")

    def check_further(self, row, others):
        """A further order of a list: a row behind its command's, within its numbers, of the same time, account and producer."""
        first = self.list_head
        need(first and first["seq"] < row["seq"] < self.least_seq, row["@"], "an order of a list without its command")
        for name in ("ts_ns", "account", "source", "source_seq", "session", "entry_ts_ns"):
            same(row[name], first[name], row["@"], name)
        need(not (row["who"] or row["why"] or row["asset"] or others), row["@"], "what an order of a list has not")

    def check_command(self, command, records, outcomes):
        """A command's row by itself, against the one before of its source, its outcomes and the trail."""
        where, kind = command["@"], command["type"]
        audited = kind in ADMIN or command["who"]
        foreign = self.scope["instrument"] is not None and command["instrument"] != self.scope["instrument"]
        need(records or not audited or foreign, where, "a command of an operator without a record in audit.log")
        need(command["slots"] >= 1, where, "slots")
        need(command["seq"] >= self.least_seq, where, "the command before it takes more numbers")
        self.least_seq = command["seq"] + command["slots"]
        self.list_head = command
        source, number = command["source"], command["source_seq"]
        after = self.numbers.get(source)
        if after is not None:
            need(number == after if self.everything else number >= after, where, f"source_seq {number} behind {after}")
        self.numbers[source] = number + command["slots"]
        # Risk's own orders are exits, under the ids that they had in the command of their entry.
        if kind in (*NEW_ORDERS, "WITHDRAW_HOLD") and source != "risk":
            code = SOURCES.get(source)
            code = int(source[len("gateway-") :]) if code is None else code
            same(command["order_id"], code << 40 | number, where, "order_id (of source and source_seq)")
        if kind in (*NEW_ORDERS, "AMEND", "CANCEL", "CANCEL_ALL") and source != "risk":
            same((command["asset"], command["timer"]), (0, 0), where, "asset and timer of an order")
        plain = (command["side"], command["stp"], command["client_order_id"]) == ("", "", "")
        need(kind in NEW_ORDERS or plain, where, "terms of an order")
        need((command["tif"] != "") == (kind == "LIMIT"), where, "tif")
        need(command["who"] or not command["why"], where, "a reason without an operator")
        if kind in (*NEW_ORDERS, "AMEND", "CANCEL", *MONEY) and not foreign:
            need(outcomes and outcomes[0]["index"] == 0, where, "a command without its first outcome")
            for name in ("account", "order_id") + (() if kind in MONEY else ("instrument",)):
                column = "hold_id" if name == "order_id" and kind in MONEY else name
                same(outcomes[0][column], command[name], outcomes[0]["@"], f"{column} (of the command)")

    def check_record(self, record, command, rates, outcomes):
        """A record of the trail against the tables."""
        where, what, done = record["@"], record["what"], record["outcome"]
        if command:
            for name in ("type", "who", "why", "source", "source_seq"):
                if not (record["source"] == "risk" and name in ("who", "why")):
                    same(command[name], record[name], command["@"], f"{name} (by {where})")
            listing = record["type"] in ("LIST_ASSET", "LIST_INSTRUMENT", "SET_BANDS")
            for name, stated in what.items():
                column = RENAMED.get(name, name)
                if (
                    column in command
                    and name != "flags"
                    and not (listing and name not in ("asset", "instrument"))
                    and not (record["source"] == "risk" and column in ("entry_ts_ns", "asset"))
                ):
                    same(command[column], stated, command["@"], f"{column} (by {where})")
        for name, listed in (("asset", self.assets), ("instrument", self.instruments)):
            if (
                "symbol" in what
                and what.get(name) in listed
                and (done["accepted"] or not record["type"].startswith("LIST_"))
            ):
                same(listed[what[name]]["symbol"], what["symbol"], listed[what[name]]["@"], f"symbol (by {where})")
        if not done["accepted"]:
            for row in outcomes:
                same(row["reason"], done["reason"], row["@"], f"reason (by {where})")
            need(not rates, where, "a refused command sets fees")
            return
        if record["type"] in MONEY:
            need(outcomes, where, f"{record['type']} was accepted, but money.csv has nothing of it")
            for name in ("asset", "amount_units", "free_units", "locked_units"):
                same(outcomes[0][name], done[name], outcomes[0]["@"], f"{name} (by {where})")
        elif record["type"] in ("SET_FEES", "LIST_INSTRUMENT") and self.scope["instrument"] in (
            None,
            what["instrument"],
        ):
            need(rates, where, "fees that rates.csv does not have")
            for name in ("instrument", "maker_rate_e8", "taker_rate_e8"):
                same(rates[0][name], what[name], rates[0]["@"], f"{name} (by {where})")
        if record["type"] == "SET_SCHEDULE":
            for (_, tier), row in self.rules.items():
                if row["seq"] == record["seq"]:
                    same(row["schedule"], what["schedule"], row["@"], f"schedule (by {where})")
                    same(row["api_discount_e8"], what["api_discount_e8"], row["@"], f"api_discount_e8 (by {where})")
                    for name, column in (("maker", "maker_rate_e8"), ("taker", "taker_rate_e8")):
                        same(row[column], what.get(f"{name}_e8_{tier}", 0), row["@"], f"{column} (by {where})")
        if record["type"] in ("LIST_ASSET", "LIST_INSTRUMENT"):
            kind = record["type"][5:].lower()
            row = (self.assets if kind == "asset" else self.instruments).get(what[kind])
            need(row, where, f"what it lists is not in {kind}s.csv")
            for name in ("symbol", "scale", "base", "quote", "tick_e8", "lot_atoms"):
                if name in row:
                    same(row[name], what[name], row["@"], f"{name} (by {where})")

    # --- outcomes

    def outcomes(self, outcomes, postings, command):
        """Outcomes in their order; the two sides of a trade are booked together, as the exchange does."""
        at = 0
        while at < len(outcomes):
            row = outcomes[at]
            self.behind = outcomes[at + 1] if at + 1 < len(outcomes) else {}
            pair = [row]
            begins = row.get("liquidity") == "TAKER" or ("liquidity" in row and row["type"] in AUCTIONS)
            if begins and at + 1 < len(outcomes):
                other = outcomes[at + 1]
                if other.get("liquidity") == "MAKER" and other["index"] == row["index"] + 1:
                    pair.append(other)
            elif row.get("event") == "PREVENTED":
                paired = at + 1 < len(outcomes) and outcomes[at + 1].get("event") == "PREVENTED"
                need(paired, row["@"], "PREVENTED without its other side")
                pair.append(outcomes[at + 1])
            if "liquidity" in row:
                self.check_pair(pair)
            checks = [self.outcome(one, pair, postings.pop(one["index"], []), command) for one in pair]
            for one, left in zip(pair, checks, strict=False):
                self.check_after(one, left)
            at += len(pair)

    def outcome(self, row, pair, postings, command):
        """One outcome: what it does to its order, and which postings there must be; returns what becomes free right behind it."""
        where = row["@"]
        legs, left = [], 0
        self.fired = (row["seq"], row["order_id"]) if row.get("event") == "TRIGGERED" else self.fired
        taker = self.fired[1] if self.fired[0] == row["seq"] else command and command["order_id"]
        own = taker is not None and row.get("order_id", row.get("hold_id")) == taker
        # The second of two linked orders has the number of its own slot.
        listed = command is not None and 0 < row.get("order_id", 0) - command["order_id"] < command["slots"]
        if command and not (listed and row.get("event") == "NEW"):
            same(row["type"], command["type"], where, "type (of the command)")
        quoted = command is not None and command["type"] == "QUOTE"
        if "liquidity" in row:
            need(
                quoted or own == (row["liquidity"] == "TAKER"),
                where,
                "liquidity: the taker is the order of the command",
            )
            legs, left = self.fill(row, pair)
            self.counts["fills"] += 1
        elif "event" in row:
            need(row["event"] in EVENTS, where, "an unknown event")
            need(
                own or quoted or listed or row["event"] in OF_OTHERS,
                where,
                "it is about another order than its command",
            )
            legs, left = self.order(row, pair, command)
            self.counts["refusals" if row["event"] == "REJECTED" else "orders"] += 1
        elif row["reason"]:
            numbers = [row[name] for name in ("index", "asset", "amount_units", "free_units", "locked_units")]
            same(numbers, [0] * 5, where, "numbers of a refusal")
            self.counts["refusals"] += 1
        else:
            legs = self.money(row)
        wanted = sorted(
            (kind, str(account), bucket, asset, units) for kind, account, bucket, asset, units in legs if units
        )
        found = sorted((p["kind"], str(p["account"]), p["bucket"], p["asset"], p["amount_units"]) for p in postings)
        place = postings[0]["@"] if postings else where
        need(found == wanted, place, f"the postings of {where} are {found}, they must be {wanted}")
        sums = {}
        for p in postings:
            key = (p["account"], p["bucket"], p["asset"])
            sums[p["asset"]] = sums.get(p["asset"], 0) + p["amount_units"]
            if p["account"] == "CLEARING":
                self.clearing[p["asset"]] = self.clearing.get(p["asset"], 0) + p["amount_units"]
            elif key in self.balance:
                self.balance[key] += p["amount_units"]
            else:
                unknown = self.has_balances and not isinstance(p["account"], str)
                need(not unknown, p["@"], "a balance that balances.csv does not have")
            self.counts["postings"] += 1
        need(not any(sums.values()), place, f"the postings of one outcome do not add up to zero: {sums}")
        return left

    def check_after(self, row, left):
        """Balances that the outcome itself states. ``left`` becomes free behind it, and the postings have it already."""
        if (
            not self.has_balances
            or row.get("event") in ("REJECTED", "DONE")
            or ("amount_units" in row and row["reason"])
        ):
            return
        asset = paid = row["asset"]
        if "liquidity" in row:
            paid = self.paid_and_got(row)[0]
        # A balance that was never anything has no row.
        free = self.balance.get((row["account"], "free", asset), 0) - (left if paid == asset else 0)
        locked = self.balance.get((row["account"], "locked", paid), 0) + left
        same(row["free_units"], free, row["@"], "free_units")
        same(row["locked_units"], locked, row["@"], "locked_units")
        for key in ((bucket, one) for bucket in ("free", "locked") for one in (asset, paid)):
            need(self.balance.get((row["account"], *key), 0) >= 0, row["@"], "a balance below zero")
        self.counts["balances"] += 2

    def check_pair(self, pair):
        """The two sides of a trade, where both are there."""
        taker = pair[0]
        if self.scope["account"] is None:
            need(len(pair) == 2, taker["@"], "a trade without its other side")
        if len(pair) == 1:
            return
        maker = pair[1]
        for name in ("instrument", "price_ticks", "qty_lots", "value_units"):
            same(maker[name], taker[name], maker["@"], f"{name} (of the other side)")
        same(maker["contra_order_id"], taker["order_id"], maker["@"], "contra_order_id")
        same(taker["contra_order_id"], maker["order_id"], taker["@"], "contra_order_id")
        need(maker["side"] != taker["side"], maker["@"], "both sides of a trade are the same")

    def find(self, row):
        """The open order of an outcome; its owner, instrument and side are the outcome's."""
        order = self.orders.get(row["order_id"])
        need(order, row["@"], f"order {row['order_id']} is not open")
        for name in ("account", "instrument", "side"):
            same(row[name], order[name], row["@"], f"{name} (of order {row['order_id']})")
        return order

    def finish(self, order):
        """An order has nothing left: it is gone, and what it still locks becomes free."""
        left = order["locked_units"]
        if order["leaves_qty_lots"] == 0:
            need(left == 0 or order["type"] == "MARKET_AMOUNT", order["@"], f"a finished order still locks {left}")
            del self.orders[order["order_id"]]
            return left
        return 0

    def fill(self, row, pair):
        """One side of a trade; legs and what becomes free behind it."""
        where, order = row["@"], self.find(row)
        instrument = self.instruments[row["instrument"]]
        buy = row["side"] == "BUY"
        price, lots = row["price_ticks"], row["qty_lots"]
        limit = order["price_ticks"]
        need(price <= limit if buy else price >= limit, where, f"the price {price} is beyond the order's limit {limit}")
        need(lots > 0, where, "a fill without quantity")
        same(row["value_units"], price * lots * instrument["multiplier"], where, "value_units")
        by_amount = order["type"] == "MARKET_AMOUNT"
        order["cum_qty_lots"] += lots
        order["leaves_qty_lots"] -= row["value_units"] if by_amount else lots
        order["value_units"] += row["value_units"]
        need(order["leaves_qty_lots"] >= 0, where, "the order is filled beyond its quantity")
        same(row["cum_qty_lots"], order["cum_qty_lots"], where, "cum_qty_lots")
        same(row["leaves_qty_lots"], order["leaves_qty_lots"], where, "leaves_qty_lots")
        base = lots * instrument["lot_atoms"]
        given, got = (row["value_units"], base) if buy else (base, row["value_units"])
        used = given if not buy or by_amount else limit * lots * instrument["multiplier"]
        order["locked_units"] -= used
        left = self.finish(order)
        account, (paid, received) = row["account"], self.paid_and_got(row)
        same(row["asset"], received, where, "asset")
        self.check_fee(row, pair)
        kind = "taker_fee" if row["liquidity"] == "TAKER" else "rebate" if row["fee_units"] < 0 else "maker_fee"
        freed = used - given + left
        return [
            ("trade", account, "locked", paid, -given),
            ("trade", "CLEARING", "free", paid, given),
            ("trade", "CLEARING", "free", received, -got),
            ("trade", account, "free", received, got),
            (kind, account, "free", row["fee_asset"], -row["fee_units"]),
            (kind, "FEE", "free", row["fee_asset"], row["fee_units"]),
            ("release", account, "locked", paid, -freed),
            ("release", account, "free", paid, freed),
        ], left

    def rate(self, row):
        """Rate of a fill by the rule that it names: the instrument's own, or a tier of a version that was in force by then."""
        taker, rule = row["liquidity"] == "TAKER", row["fee_rule"]
        if rule == 0:
            same((row["fee_tier"], row["fee_api"]), (0, 0), row["@"], "tier and discount of the instrument's own rates")
            return self.rates[row["instrument"]][taker]
        tier = self.rules.get((rule, row["fee_tier"]))
        need(tier, row["@"], f"rule {rule} has no tier {row['fee_tier']} in rules.csv")
        begun = tier["seq"] < row["seq"] and tier["effective_ts_ns"] <= row["ts_ns"]
        need(begun, row["@"], f"rule {rule} was not in force yet")
        rate = tier["taker_rate_e8" if taker else "maker_rate_e8"]
        discount = tier["api_discount_e8"] if row["fee_api"] and rate > 0 else 0
        return -(-rate * (E8 - discount) // E8)

    def check_fee(self, row, pair):
        """A charge is ceil(received * rate). A maker's negative rate is a rebate, of at most the taker's fee."""
        instrument = self.instruments[row["instrument"]]
        base, value_units = row["qty_lots"] * instrument["lot_atoms"], row["value_units"]
        rate, buy, taker = self.rate(row), row["side"] == "BUY", row["liquidity"] == "TAKER"
        fee, asset = -(-(base if buy else value_units) * rate // E8), instrument["base" if buy else "quote"]
        need(rate >= 0 or not taker, row["@"], "a taker with a negative rate")
        if rate < 0:
            fee, asset = -((value_units if buy else base) * -rate // E8), instrument["quote" if buy else "base"]
            if row["type"] in AUCTIONS and row["fee_units"] == 0 and pair[0]["liquidity"] == "MAKER":
                # Nobody takes in an auction, and nobody pays for a rebate.
                fee, asset = 0, instrument["base" if buy else "quote"]
            # An archive of one account does not have the taker's fee, which the rebate may have been cut down to.
            fee = max(fee, -pair[0]["fee_units"]) if len(pair) == 2 else max(fee, row["fee_units"])
            need(row["fee_units"] <= 0, row["@"], "a rebate below nothing")
        same(row["fee_units"], fee, row["@"], "fee_units")
        same(row["fee_asset"], asset, row["@"], "fee_asset")

    def order(self, row, pair, command):
        """What happened to an order, fills apart; legs and what becomes free behind it."""
        where, event = row["@"], row["event"]
        if event in ("REJECTED", "DONE"):
            numbers = [row[name] for name in ("cum_qty_lots", "leaves_qty_lots", "free_units", "locked_units", "asset")]
            same(numbers, [0] * 5, where, "numbers of a refusal, or of the end of a cancel-all")
            need((row["reason"] != "") == (event == "REJECTED"), where, "reason")
            if event == "REJECTED":
                need(command and row["index"] == 0, where, "a refusal without its command")
                for name in ("account", "instrument", "order_id", "price_ticks", "qty_lots"):
                    same(row[name], command[name], where, f"{name} (of the command)")
                need(command["side"] in ("", row["side"]), where, "side (of the command)")
            else:
                for name in ("account", "instrument"):
                    need(not command or row[name] == command[name], where, f"{name} is not the command's")
                same(row["qty_lots"], self.removed, where, "how many orders the cancel-all took")
            return [], 0
        if event == "NEW":
            self.enter(row, command)
        order = self.find(row)
        before, left = order["locked_units"], 0
        if event == "NEW":
            before = 0
        elif event == "REPLACED":
            order["price_ticks"], order["qty_lots"] = row["price_ticks"], row["qty_lots"]
            order["leaves_qty_lots"] = row["qty_lots"] - order["cum_qty_lots"] - order["prevented_lots"]
            order["locked_units"] = self.hold_of(order, order["leaves_qty_lots"])
            if command and command["type"] == "QUOTE":
                same(row["account"], command["account"], where, "account (of the command)")
            elif command:
                same(row["price_ticks"], command["price_ticks"], where, "price_ticks (of the command)")
                same(row["qty_lots"], command["qty_lots"], where, "qty_lots (of the command)")
        elif event in ("CANCELED", "EXPIRED"):
            takes, has = row["qty_lots"], order["leaves_qty_lots"]
            need(takes == has, where, f"it takes {takes}, the order has {has} left")
            order["leaves_qty_lots"] = order["locked_units"] = 0
            self.removed += 1
        elif event == "TRIGGERED" and self.behind.get("reason") == "BY_LINK" and self.behind["side"] == row["side"]:
            # It takes over what the order that it was linked with holds, which ends behind it.
            partner = self.find(self.behind)
            before += partner["locked_units"]
            partner["locked_units"] = 0
            order["locked_units"] = self.hold_of(order, order["leaves_qty_lots"])
        elif event == "PREVENTED":
            lots, by_amount = row["qty_lots"], order["type"] == "MARKET_AMOUNT"
            price = pair[-1]["price_ticks"]
            worth = price * lots * self.instruments[row["instrument"]]["multiplier"]
            order["prevented_lots"] += lots
            order["leaves_qty_lots"] -= worth if by_amount else lots
            order["locked_units"] -= worth if by_amount and row["side"] == "BUY" else self.hold_of(order, lots)
        else:
            same(row["qty_lots"], order["qty_lots"], where, "qty_lots (of the order)")
        need(order["leaves_qty_lots"] >= 0, where, "the order has less than nothing left")
        if event == "PEGGED":
            # Where it stands is what the book says; its limit, and what it holds, stay.
            inside = (
                row["price_ticks"] <= order["price_ticks"]
                if row["side"] == "BUY"
                else row["price_ticks"] >= order["price_ticks"]
            )
            need(inside, where, "the price is beyond the order's limit")
        for name in ("price_ticks", "cum_qty_lots", "leaves_qty_lots")[event == "PEGGED" :]:
            same(row[name], order[name], where, f"{name} (of the order)")
        paid = self.paid_and_got(row)[0]
        same(row["asset"], paid, where, "asset")
        told = event in ("CANCELED", "EXPIRED", "PREVENTED", "TRIGGERED")
        need(told or row["reason"] == "", where, "a reason where none can be")
        moved = order["locked_units"] - before
        if order["leaves_qty_lots"] == 0:
            left = self.finish(order)
            moved -= left
        kind = "hold" if moved > 0 else "release"
        return [(kind, row["account"], "locked", paid, moved), (kind, row["account"], "free", paid, -moved)], left

    def enter(self, row, command):
        """A new order, with the terms of its command."""
        where = row["@"]
        need(row["order_id"] not in self.orders, where, f"order {row['order_id']} is open already")
        need(command, where, "an order without its command")
        quoted = row["type"] == "QUOTE"
        # The second of two linked orders: of one instrument, side and quantity, and under the number of its own slot.
        listed = not quoted and 0 < row["order_id"] - command["order_id"] < command["slots"]
        names = ("type", "account") if quoted else ("account", "instrument", "side", "qty_lots")
        for name in names if quoted or listed else (*names, "type", "order_id"):
            same(row[name], command[name], where, f"{name} (of the command)")
        price, stated = row["price_ticks"], command["price_ticks"]
        if quoted:
            code = SOURCES.get(command["source"])
            code = int(command["source"][len("gateway-") :]) if code is None else code
            slot = (row["order_id"] & ~QUOTE_ASK) - (code << 40 | command["source_seq"])
            need(0 < slot < command["slots"], where, "order_id is none of the command's quotes")
            need((row["order_id"] & QUOTE_ASK != 0) == (row["side"] == "SELL"), where, "side of a quote's order")
        elif not listed:
            tighter = price <= stated or stated == 0 if row["side"] == "BUY" else price >= stated
            need(price == stated if row["type"] == "LIMIT" else tighter, where, "the price is not the command's")
        order = {
            name: row[name]
            for name in ("order_id", "account", "instrument", "side", "type", "price_ticks", "qty_lots", "@")
        }
        order.update(cum_qty_lots=0, prevented_lots=0, value_units=0, leaves_qty_lots=row["qty_lots"])
        if row["type"] != "MARKET_AMOUNT":
            order["locked_units"] = self.hold_of(order, row["qty_lots"])
        elif row["side"] == "BUY":
            order["locked_units"] = row["qty_lots"]
        else:
            lots = row["qty_lots"] // (price * self.instruments[row["instrument"]]["multiplier"])
            order["locked_units"] = lots * self.instruments[row["instrument"]]["lot_atoms"]
        if listed:
            # Beyond what the first of the two holds.
            order["locked_units"] = max(0, order["locked_units"] - self.orders[command["order_id"]]["locked_units"])
        for name in ("tif", "stp", "client_order_id"):
            # Of the second of two the tables of commands say no more.
            order[name] = None if listed else command[name]
        if row["type"] != "LIMIT":
            # One that waits for a price is open, and never rests.
            order["tif"] = "IOC"
        if quoted:
            order.update(type="LIMIT", tif="POST_ONLY", stp="NONE")
        order.update(entry_seq=row["seq"], entry_ts_ns=row["ts_ns"])
        self.orders[row["order_id"]] = order

    def money(self, row):
        """A deposit, an adjustment, a step of a withdrawal, a side of a transfer."""
        where, kind, account, asset, units = row["@"], row["type"], row["account"], row["asset"], row["amount_units"]
        legs = {
            "DEPOSIT": ((account, "free"), ("EXTERNAL", "free")),
            "ADJUST": ((account, "free"), ("EXTERNAL", "free")),
            "WITHDRAW_HOLD": ((account, "locked"), (account, "free")),
            "WITHDRAW_SETTLE": ((account, "locked"), ("EXTERNAL", "free")),
            "WITHDRAW_RELEASE": ((account, "free"), (account, "locked")),
            "TRANSFER": ((account, "free"), ("CLEARING", "free")),
        }
        need(kind in legs, where, "an unknown kind of money command")
        if kind == "WITHDRAW_HOLD":
            need(units > 0 and row["hold_id"] not in self.holds, where, "a hold that is there already")
            self.holds[row["hold_id"]] = {"account": account, "asset": asset, "amount_units": units, "seq": row["seq"]}
        elif kind in ("WITHDRAW_SETTLE", "WITHDRAW_RELEASE"):
            hold = self.holds.pop(row["hold_id"], None)
            need(hold, where, "no such withdrawal is held")
            wanted = (hold["account"], hold["asset"], hold["amount_units"])
            same((account, asset, abs(units)), wanted, where, "account, asset and amount (of the hold)")
            need((units < 0) == (kind == "WITHDRAW_SETTLE"), where, "the sign of the amount")
        else:
            same(row["hold_id"], 0, where, "hold_id")
        (one, bucket), (other, contra) = legs[kind]
        return [(kind.lower(), one, bucket, asset, units), (kind.lower(), other, contra, asset, -units)]

    def end(self):
        """What stands at the end is what was computed."""
        names = (
            "account",
            "instrument",
            "side",
            "tif",
            "stp",
            "price_ticks",
            "qty_lots",
            "cum_qty_lots",
            "prevented_lots",
        )
        names += ("leaves_qty_lots", "value_units", "locked_units", "entry_seq", "entry_ts_ns", "client_order_id")
        left = dict(self.orders)
        for row in table(self.folder, "open_orders.csv"):
            if row["at"] != "opening":
                same(row["at"], "closing", row["@"], "at")
                order = left.pop(row["order_id"], None)
                need(order, row["@"], f"order {row['order_id']} is not open at the end")
                for name in names:
                    same(row[name], row[name] if order[name] is None else order[name], row["@"], name)
        need(not left, "open_orders.csv", f"open orders are missing at the closing: {sorted(left)[:5]}")
        holds = dict(self.holds)
        for row in table(self.folder, "open_withdrawals.csv"):
            if row["at"] != "opening":
                same(row["at"], "closing", row["@"], "at")
                hold = holds.pop(row["hold_id"], None)
                need(hold, row["@"], f"withdrawal {row['hold_id']} is not held at the end")
                for name in ("account", "asset", "amount_units", "seq"):
                    same(row[name], hold[name], row["@"], name)
        need(not holds, "open_withdrawals.csv", f"withdrawals are missing at the closing: {sorted(holds)[:5]}")
        for key, (units, where) in self.closing.items():
            same(
                units,
                self.balance[key],
                where,
                f"closing {key[1]} of account {key[0]}, asset {key[2]} (opening and postings)",
            )
        if self.everything:
            sums = {}
            for (_, _, asset), units in self.balance.items():
                sums[asset] = sums.get(asset, 0) + units
            need(not any(sums.values()), "balances.csv", f"all accounts together do not add up to zero: {sums}")
        self.check_locked("at the closing")


def main():
    """Check an archive; 0 where all fits."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument(
        "--manifest", default="", metavar="SHA256", help="what the manifest's hash was when the archive was made"
    )
    options = parser.parse_args()
    try:
        manifest = check_files(options.folder, options.manifest)
        counts = Ledger(options.folder, manifest).walk()
    except Problem as problem:
        print(f"PROBLEM   {problem}")
        return 1
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        print(f"PROBLEM   the archive cannot be read: {type(error).__name__}: {error}")
        return 1
    commands, events, refusals = counts["commands"], counts["orders"], counts["refusals"]
    print(f"orders    {commands} commands, {events} events of orders, {refusals} refusals: terms, quantities, states")
    print(f"fills     {counts['fills']} sides of trades: price limits, quantities, values, fees")
    print(f"postings  {counts['postings']}: those that the outcomes call for, zero for each outcome and asset")
    print(f"balances  opening and postings make the closing; {counts['balances']} stated on the way are right")
    print(
        f"range     commands {manifest['from_seq']} to {manifest['to_seq']}, {manifest['from_time']} to {manifest['to_time']}"
    )
    print("all agrees")
    return 0


if __name__ == "__main__":
    sys.exit(main())
