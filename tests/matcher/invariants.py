"""Everything that must hold of a shard's state between two commands, looked up the slow way."""

import numpy as np

from matcher import state as s
from matcher.state import MatcherState
from protocol.enums import BUY, INSTRUMENT_AUCTION, SELL

SOURCE = 0xD6E8FEB86659FD93
MASK = (1 << 64) - 1
PHI = 0x9E3779B97F4A7C15
INSTRUMENT = 0xD6E8FEB86659FD93


def check_state(state: MatcherState) -> None:
    """Raise AssertionError that names what does not fit."""
    assert state.meta[s.STAGE] == s.STAGE_IDLE
    in_books: list[int] = []
    leaves: dict[int, tuple[int, int]] = {}
    all_pegs = 0
    stride = len(state.lot_atoms)
    assert state.meta[s.FIRED_HEAD] == state.meta[s.PARTS_LEFT] == state.meta[s.PEG_INSTRUMENT] == 0
    for book in range(len(state.books)):
        slots = _check_book(state, book, leaves)
        assert len(slots) == state.books[book]["orders"], f"book {book} counts its orders"
        assert all(bool(state.orders[slot]["modes"] & s.WAITS) == (1 <= book // stride <= 3) for slot in slots)
        if 1 <= book // stride <= 3:
            to_trail = [slot for slot in slots if state.terms[slot]["activates"]]
            assert not any(state.terms[slot]["offset_kind"] for slot in to_trail)
            assert all(state.orders[slot]["side"] == state.terms[slot]["side"] for slot in to_trail)
            assert len(_check_trails(state, book, slots)) + len(to_trail) == state.books[book]["stops"]
        elif book < stride:
            pegs = _check_trails(state, book, [slot for slot in slots if state.orders[slot]["modes"] & s.HAS_TERMS])
            assert len(pegs) == state.books[book + s.BOOK_AUCTION_BIDS * stride]["stops"]
            all_pegs += len(pegs)
        in_books += slots
    assert state.meta[s.PEGS] == all_pegs
    for instrument in range(1, stride):
        waiting = sum(int(state.books[instrument + kind * stride]["orders"]) for kind in (1, 2, 3))
        assert waiting == state.books[instrument]["stops"]
    assert len(set(in_books)) == len(in_books), "an order is in one place"
    assert len(in_books) == state.meta[s.ORDERS_LIVE]
    _check_free(state.orders, "next", in_books, int(state.meta[s.ORDERS_USED]), int(state.meta[s.ORDERS_FREE]))
    kept = np.count_nonzero(state.kept["leaf"])
    assert len(leaves) == state.meta[s.LEAVES_LIVE] + kept
    assert kept == sum(state.leaves["bitmap"][leaf] == 0 for leaf in leaves)
    _check_free(state.leaves, "higher", list(leaves), int(state.meta[s.LEAVES_USED]), int(state.meta[s.LEAVES_FREE]))
    _check_leaf_table(state, leaves)
    _check_blocks(state, leaves)
    _check_ids(state, in_books)
    _check_accounts(state, in_books)
    _check_terms(state, in_books)
    states = state.books["market_state"][:stride]
    assert state.meta[s.AUCTIONS] == (states == INSTRUMENT_AUCTION).sum()


def _check_terms(state: MatcherState, in_books: list[int]) -> None:
    """The heap holds the orders that expire, each once, none behind one that is due sooner."""
    special = [slot for slot in in_books if state.orders[slot]["modes"] & s.HAS_TERMS]
    rows = state.terms
    count = int(state.meta[s.DUE_COUNT])
    due = [int(slot) for slot in state.due[1 : count + 1]]
    assert sorted(due) == sorted(slot for slot in special if rows[slot]["expiry_ns"])
    for at, slot in enumerate(due, 1):
        assert rows[slot]["due_at"] == at
        above = due[max(1, at >> 1) - 1]
        key = (int(rows[slot]["expiry_ns"]), int(rows[slot]["age"]))
        assert (int(rows[above]["expiry_ns"]), int(rows[above]["age"])) <= key
    for slot in special:
        shown, hidden = int(state.orders[slot]["left_lots"]), int(rows[slot]["hidden_lots"])
        assert hidden >= 0
        waits = bool(state.orders[slot]["modes"] & s.WAITS)
        assert waits or rows[slot]["display_lots"] == 0 or shown <= rows[slot]["display_lots"]
        assert shown + hidden <= state.orders[slot]["total_lots"]
        other = int(rows[slot]["link"])
        assert other == 0 or (other in special and rows[other]["link"] == slot), (
            "of two linked orders each names the other"
        )


def linked_orders(state: MatcherState) -> list[tuple[int, int]]:
    """(order id, that of the order it is linked with) of all that are."""
    slots = [slot for slot in range(1, int(state.meta[s.ORDERS_USED]) + 1) if state.orders[slot]["order_id"]]
    linked = [slot for slot in slots if state.orders[slot]["modes"] & s.HAS_TERMS and state.terms[slot]["link"]]
    ids = state.orders["order_id"]
    return [(int(ids[slot]), int(ids[state.terms[slot]["link"]])) for slot in linked]


def _check_trails(state: MatcherState, book: int, slots: list[int]) -> list[int]:
    """The trailing stops, or the pegs, of a book are in the lists of their sides, pegs oldest first."""
    found = []
    stride = len(state.lot_atoms)
    for side in (BUY, SELL):
        before, slot = 0, int(state.trails[4 * book + 2 * side])
        while slot:
            assert state.orders[slot]["side"] == side
            assert state.terms[slot]["trail_prev"] == before
            assert before == 0 or book >= stride or state.terms[before]["age"] < state.terms[slot]["age"]
            found.append(slot)
            before, slot = slot, int(state.terms[slot]["trail_next"])
        assert before == state.trails[4 * book + 2 * side + 1]
    assert sorted(found) == sorted(slot for slot in slots if state.terms[slot]["offset_kind"])
    return found


def _check_book(state: MatcherState, instrument: int, leaves: dict[int, tuple[int, int]]) -> list[int]:
    book = state.books[instrument]
    best_bid, best_ask = (int(price) for price in book["best_ticks"])
    assert best_bid < best_ask, "a book is not crossed"
    slots: list[int] = []
    prices: tuple[dict[int, int], dict[int, int]] = ({}, {})
    lower = lower_prefix = 0
    in_tree: list[int] = []
    if book["root"]:
        _check_tree(state, int(book["root"]), 63, 0, in_tree)
    leaf = in_tree[0] if in_tree else 0
    in_list = []
    while leaf:
        row = state.leaves[leaf]
        assert row["lower"] == lower
        in_list.append(leaf)
        if row["bitmap"] == 0:
            assert row["tail"] == 0
            assert state.kept[row["head"]].item() == (_prefix(state, leaf), instrument, leaf)
        queues = _queues(state, leaf, instrument) if row["bitmap"] else {}
        prefix = _prefix(state, leaf)
        assert lower == 0 or lower_prefix < prefix, "leaves rise by price"
        leaves[leaf] = (instrument, prefix)
        for offset, (head, tail) in queues.items():
            level = leaf << 6 | offset
            price = prefix << 6 | offset
            slots += _check_level(state, level, head, tail, instrument, price, BUY if price <= best_bid else SELL)
            prices[0 if price <= best_bid else 1][price] = level
        lower, lower_prefix = leaf, prefix
        leaf = int(row["higher"])
    assert in_list == in_tree
    bids, asks = prices
    assert best_bid == max(bids, default=0)
    assert best_ask == min(asks, default=s.NO_ASK)
    assert [int(level) for level in book["best_level"]] == [bids.get(best_bid, 0), asks.get(best_ask, 0)]
    return slots


def _prefix(state: MatcherState, leaf: int) -> int:
    row = state.leaves[leaf]
    head = int(row["head"])
    if row["tail"] & s.MANY:
        return int(state.levels[head]["tail"]) << 32 | int(state.levels[head]["head"])
    return int(state.orders[head]["price_ticks"]) >> 6 if row["tail"] else int(state.kept[head]["prefix"])


def _queues(state: MatcherState, leaf: int, book: int) -> dict[int, tuple[int, int]]:
    """First and last order of each price in use of a leaf; the block is one of the right size, and has nothing else in it."""
    row = state.leaves[leaf]
    offsets = [offset for offset in range(64) if int(row["bitmap"]) >> offset & 1]
    head, tail = int(row["head"]), int(row["tail"])
    if not tail & s.MANY:
        assert len(offsets) == 1
        return {offsets[0]: (head, tail)}
    size = tail >> s.SIZE_SHIFT & 3
    assert tail == s.MANY | size << s.SIZE_SHIFT | book
    room = s.block_entries(size) - 1
    assert s.BLOCK_FEWEST[size] <= len(offsets) <= room
    places = offsets if tail >= s.WIDE else list(range(len(offsets)))
    block = [(int(queue["head"]), int(queue["tail"])) for queue in state.levels[head + 1 : head + 1 + room]]
    assert all(block[at] == (0, 0) for at in range(room) if at not in places)
    return {offset: block[at] for offset, at in zip(offsets, places, strict=True)}


def _check_tree(state: MatcherState, word: int, above: int, prefix: int, found: list[int]) -> None:
    """Below a word lie leaves in the order of their prices, which agree in all bits above the fork over it."""
    number = word & s.CHILD_MASK
    if word >= s.AT_LEAF:
        assert _prefix(state, number) >> above == prefix >> above
        found.append(number)
        return
    fork = word >> s.CHILD_SHIFT
    assert fork < above
    first = len(found)
    for way in (0, 1):
        child = int(state.nodes[number]["child"][way])
        leaf = child
        while leaf < s.AT_LEAF:
            leaf = int(state.nodes[leaf & s.CHILD_MASK]["child"][0])
        below = _prefix(state, leaf & s.CHILD_MASK)
        assert below >> fork & 1 == way
        assert above == 63 or below >> above == prefix >> above
        _check_tree(state, child, fork, below, found)
    assert len({_prefix(state, leaf) >> fork + 1 for leaf in found[first:]}) == 1


def _check_level(
    state: MatcherState, level: int, head: int, tail: int, instrument: int, price: int, side: int
) -> list[int]:
    slots: list[int] = []
    older = 0
    slot = head
    while slot:
        order = state.orders[slot]
        assert order["prev"] == older
        assert order["level"] == level
        assert order["book"] == instrument
        assert order["price_ticks"] == price
        assert order["side"] == side
        assert order["order_id"] > 0
        assert 0 < order["left_lots"] <= order["total_lots"]
        slots.append(slot)
        older = slot
        slot = int(order["next"])
    assert slots, f"level {level} has orders"
    assert tail == older
    return slots


def _check_free(pool, link: str, live: list[int], used: int, first: int) -> None:
    free: list[int] = []
    while first:
        free.append(first)
        first = int(pool[first][link])
    assert sorted(free + live) == list(range(1, used + 1)), "a slot that was ever used is live or free"


def _reachable(occupied: list[bool], home: int, at: int) -> bool:
    mask = len(occupied) - 1
    while home != at:
        if not occupied[home]:
            return False
        home = home + 1 & mask
    return True


def _check_leaf_table(state: MatcherState, leaves: dict[int, tuple[int, int]]) -> None:
    table = state.leaf_table
    occupied = [bool(leaf) for leaf in table]
    assert sorted(leaves) == sorted(int(leaf) for leaf in table if leaf)
    shift = 64 - (len(table).bit_length() - 1 - 4)
    for i, leaf in enumerate(table):
        if leaf:
            instrument, prefix = leaves[int(leaf)]
            home = ((instrument * INSTRUMENT + (prefix >> 4)) * PHI & MASK) >> shift << 4 | prefix & 15
            assert _reachable(occupied, home, i), f"leaf {leaf} is found from its home"


def _check_blocks(state: MatcherState, leaves: dict[int, tuple[int, int]]) -> None:
    """Blocks that were ever made are of a leaf or free, and fill the used entries; nodes are a fork each, or free."""
    blocks: list[tuple[int, int]] = []
    for leaf in leaves:
        tail = int(state.leaves[leaf]["tail"])
        if tail & s.MANY:
            blocks.append((int(state.leaves[leaf]["head"]), tail >> s.SIZE_SHIFT & 3))
    for size in range(s.BLOCK_SIZES):
        block = int(state.meta[s.LEVELS_FREE + size])
        while block:
            blocks.append((block, size))
            assert not state.levels[block + 1 : block + s.block_entries(size)]["head"].any(), "a free block is empty"
            assert not state.levels[block + 1 : block + s.block_entries(size)]["tail"].any(), "a free block is empty"
            block = int(state.levels[block]["head"])
    at = 1
    for block, size in sorted(blocks):
        assert block == at
        at += s.block_entries(size)
    assert at == state.meta[s.LEVELS_USED] + 1

    forks = len(leaves) - sum(bool(book["root"]) for book in state.books)
    node, free = int(state.meta[s.NODES_FREE]), 0
    while node:
        free += 1
        node = int(state.nodes[node]["child"][0])
    assert forks + free == state.meta[s.NODES_USED]


def _check_ids(state: MatcherState, in_books: list[int]) -> None:
    recent, others = state.recent_ids, state.other_ids
    found = []
    for i, slot in enumerate(recent.tolist()):
        if slot:
            order_id = int(state.orders[slot]["order_id"])
            assert (order_id + (order_id >> 40) * SOURCE) % len(recent) == i
            found.append(slot)
    occupied = [slot != 0 for slot in others.tolist()]
    for i, slot in enumerate(others.tolist()):
        if slot:
            order_id = int(state.orders[slot]["order_id"])
            home = (order_id * PHI & MASK) >> 64 - (len(others).bit_length() - 1)
            assert _reachable(occupied, home, i), f"order {order_id} is found from its home"
            found.append(slot)
    assert sorted(found) == sorted(in_books), "every resting order has its id in one of the tables, and no other"


def _check_accounts(state: MatcherState, in_books: list[int]) -> None:
    found = []
    for account, first in enumerate(int(slot) for slot in state.accounts):
        before, slot = 0, first
        while slot:
            order = state.orders[slot]
            assert order["account"] == account
            assert order["account_prev"] == before
            found.append(slot)
            before, slot = slot, int(order["account_next"])
    assert sorted(found) == sorted(in_books), "every resting order is in the list of its account"
