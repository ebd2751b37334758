"""Price levels of books of any width: leaves of 64 prices found by hash, linked by price, below a tree that forks bit by bit.

* A *leaf* holds 64 neighbouring prices of a book: one bit and one FIFO each. It is found by (book, price
  >> 6) in a table whose lines hold 16 neighbouring leaves, and exists only while an order rests in it.
* The FIFO of a leaf with one price lies in the leaf. One with more has a *block* of levels: of 4 or 16, which are those in use in
  the order of their prices, or of 64, one for each price. Leaves move to a larger block when theirs is full, and to a smaller one
  when it is nearly empty. A level is named by its leaf and price, so that no order has to know.
* Leaves of a book form a doubly linked list in price order, so that the next best price is a bit scan, or a
  link and a bit scan.
* A leaf whose last order leaves stays where it is for a while, empty: near the touch prices come and go, and orders come back to
  them. A scan passes it.
* *Nodes* are the forks of a tree over the prefixes of a book's leaves (a crit-bit tree: one node less than leaves, whatever the
  prices). They are touched only when a leaf is made or dropped: they find the place of a new leaf in the list.

The cost of any step depends neither on the distance between prices nor on the number of levels, but for the depth of
that tree, which is at most the 56 bits of a prefix.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from matcher.jit import njit_called, njit_inlined
from matcher.state import (
    AT_LEAF,
    BLOCK_FEWEST,
    BLOCK_SIZES,
    BOOK_MASK,
    CHILD_MASK,
    CHILD_SHIFT,
    KEPT_AT,
    LEAF_TABLE_SHIFT,
    LEAVES_FREE,
    LEAVES_LIVE,
    LEAVES_USED,
    LEVELS_FREE,
    LEVELS_USED,
    MANY,
    NODES_FREE,
    NODES_USED,
    SIZE_SHIFT,
    WIDE,
)
from protocol.enums import BUY, SELL
from ringbuf.bits import PHI, above, add, below, bit, highest, lowest, multiply, ones

_U0: Final = np.uint64(0)
_BOOK: Final = np.uint64(0xD6E8FEB86659FD93)  # odd, to spread instruments over the tables
_SIZE_MASK: Final = 3
_ONE_PRICE: Final = -1
"""In place of a block's size: the level lies in the leaf."""
_HALF: Final = 32
_HALF_MASK: Final = (1 << _HALF) - 1
FEW: Final = BLOCK_FEWEST[BLOCK_SIZES - 1] - 1
"""With so many prices in use a wide leaf is to be thinned."""


# --- leaves ----------------------------------------------------------------------------------------------------------


@njit_inlined
def prefix_of(state, leaf):
    """Price >> 6 of a leaf."""
    row = state.leaves[leaf]
    head = np.int64(row["head"])
    tail = np.int64(row["tail"])
    if tail >= MANY:
        return _prefix_at(state.levels, head)
    return state.orders[head]["price_ticks"] >> 6 if tail != 0 else state.kept[head]["prefix"]


@njit_inlined
def _prefix_at(levels, block):
    return np.int64(levels[block]["tail"]) << _HALF | np.int64(levels[block]["head"])


@njit_inlined
def _is_leaf_of(state, leaf, book, prefix):
    row = state.leaves[leaf]
    head = np.int64(row["head"])
    tail = np.int64(row["tail"])
    if tail >= MANY:
        return (tail & BOOK_MASK) == book and _prefix_at(state.levels, head) == prefix
    if tail == 0:
        return state.kept[head]["prefix"] == prefix and np.int64(state.kept[head]["book"]) == book
    order = state.orders[head]
    return order["price_ticks"] >> 6 == prefix and np.int64(order["book"]) == book


@njit_inlined
def _leaf_home(meta, book, prefix):
    word = add(multiply(np.uint64(book), _BOOK), prefix >> 4)
    return np.int64(multiply(word, PHI) >> np.uint64(meta[LEAF_TABLE_SHIFT])) << 4 | (prefix & 15)


@njit_inlined
def find_leaf(state, book, prefix):
    """Leaf of (book, price >> 6), or 0."""
    table = state.leaf_table
    mask = np.int64(table.shape[0] - 1)
    i = _leaf_home(state.meta, book, prefix)
    while True:
        leaf = np.int64(table[i])
        if leaf == 0 or _is_leaf_of(state, leaf, book, prefix):
            return leaf
        i = (i + 1) & mask


@njit_called
def has_leaf(state, book, prefix):
    """Whether there are orders at the prices of (book, price >> 6)."""
    return state.leaves[find_leaf(state, book, prefix)]["tail"] != 0


@njit_inlined
def first_leaf(state, book, prefix):
    """What ``find_leaf`` looks at first: mostly the leaf, or 0."""
    return np.int64(state.leaf_table[_leaf_home(state.meta, book, prefix)])


@njit_inlined
def is_wide_of(state, leaf, book, prefix):
    """Whether a leaf is that of (book, price >> 6), and wide; not of row 0, whose tail is 0."""
    row = state.leaves[leaf]
    return np.int64(row["tail"]) == WIDE | book and _prefix_at(state.levels, np.int64(row["head"])) == prefix


@njit_inlined
def leaf_available(state):
    """Whether another leaf can be made."""
    return state.meta[LEAVES_LIVE] < state.leaves.shape[0] - 1


@njit_called
def _make_leaf(state, book, prefix, slot, offset):
    """A new leaf in its place, with one order, at ``offset`` of its prices. One must be available."""
    meta = state.meta
    leaves = state.leaves
    assert leaf_available(state), "a leaf is available"
    if meta[LEAVES_FREE] == 0 and meta[LEAVES_USED] == leaves.shape[0] - 1:
        _drop_longest_kept(state)
    leaf = meta[LEAVES_FREE]
    if leaf != 0:
        meta[LEAVES_FREE] = leaves[leaf]["higher"]
    else:
        meta[LEAVES_USED] += 1
        leaf = meta[LEAVES_USED]
    meta[LEAVES_LIVE] += 1
    row = leaves[leaf]
    row["bitmap"] = bit(offset)
    row["head"] = slot
    row["tail"] = slot
    _enter_tree(state, book, prefix, leaf)

    table = state.leaf_table
    mask = np.int64(table.shape[0] - 1)
    i = _leaf_home(meta, book, prefix)
    while table[i] != 0:
        i = (i + 1) & mask
    table[i] = leaf
    return leaf


@njit_called
def _keep_leaf(state, leaf, book, prefix):
    """Let a leaf whose last order leaves stay in its place; it has no block."""
    meta = state.meta
    at = meta[KEPT_AT] % (state.kept.shape[0] - 1) + 1
    meta[KEPT_AT] = at
    if state.kept[at]["leaf"] != 0:
        _drop_kept(state, at)
    kept = state.kept[at]
    kept["prefix"] = prefix
    kept["book"] = book
    kept["leaf"] = leaf
    row = state.leaves[leaf]
    row["bitmap"] = _U0
    row["head"] = at
    row["tail"] = 0
    meta[LEAVES_LIVE] -= 1


@njit_inlined
def _use_kept(state, leaf, slot, offset):
    """An order comes to a leaf that is empty and in its place."""
    row = state.leaves[leaf]
    state.kept[np.int64(row["head"])]["leaf"] = 0
    row["bitmap"] = bit(offset)
    row["head"] = slot
    row["tail"] = slot
    state.meta[LEAVES_LIVE] += 1


@njit_called
def _drop_longest_kept(state):
    """Give back the leaf that has been empty longest; there is one."""
    rows = np.int64(state.kept.shape[0] - 1)
    at = state.meta[KEPT_AT] % rows + 1
    while state.kept[at]["leaf"] == 0:
        at = at % rows + 1
    _drop_kept(state, at)


@njit_called
def _drop_kept(state, at):
    """Give back the leaf of a row of ``kept``, and the row."""
    kept = state.kept[at]
    leaf = np.int64(kept["leaf"])
    book = np.int64(kept["book"])
    prefix = kept["prefix"]
    meta = state.meta
    leaves = state.leaves
    _leave_tree(state, book, prefix)

    table = state.leaf_table
    mask = np.int64(table.shape[0] - 1)
    hole = _leaf_home(meta, book, prefix)
    while table[hole] != leaf:
        hole = (hole + 1) & mask
    i = hole
    while True:
        i = (i + 1) & mask
        other = np.int64(table[i])
        if other == 0:
            break
        home = _leaf_home(meta, _book_of(state, other), prefix_of(state, other))
        if (i - home) & mask >= (i - hole) & mask:
            table[hole] = other
            hole = i
    table[hole] = 0

    lower = np.int64(leaves[leaf]["lower"])
    higher = np.int64(leaves[leaf]["higher"])
    leaves[lower]["higher"] = higher
    leaves[higher]["lower"] = lower
    leaves[leaf]["higher"] = meta[LEAVES_FREE]
    meta[LEAVES_FREE] = leaf
    kept["leaf"] = 0


@njit_inlined
def _book_of(state, leaf):
    row = state.leaves[leaf]
    head = np.int64(row["head"])
    tail = np.int64(row["tail"])
    if tail >= MANY:
        return tail & BOOK_MASK
    return np.int64(state.orders[head]["book"]) if tail != 0 else np.int64(state.kept[head]["book"])


# --- levels ----------------------------------------------------------------------------------------------------------


@njit_inlined
def next_level_up(leaves, level):
    """Level of the next higher price with orders, or 0."""
    leaf = level >> 6
    word = leaves[leaf]["bitmap"] & above(level & 63)
    if word != _U0:
        return leaf << 6 | lowest(word)
    return _next_leaf_up(leaves, leaf)


@njit_called
def _next_leaf_up(leaves, leaf):
    """Lowest level of the leaves above one, or 0; those without orders are passed."""
    leaf = np.int64(leaves[leaf]["higher"])
    while leaf != 0 and leaves[leaf]["bitmap"] == _U0:
        leaf = np.int64(leaves[leaf]["higher"])
    if leaf == 0:
        return leaf
    return leaf << 6 | lowest(leaves[leaf]["bitmap"])


@njit_inlined
def next_level_down(leaves, level):
    """Level of the next lower price with orders, or 0."""
    leaf = level >> 6
    word = leaves[leaf]["bitmap"] & below(level & 63)
    if word != _U0:
        return leaf << 6 | highest(word)
    return _next_leaf_down(leaves, leaf)


@njit_called
def _next_leaf_down(leaves, leaf):
    """Highest level of the leaves below one, or 0; those without orders are passed."""
    leaf = np.int64(leaves[leaf]["lower"])
    while leaf != 0 and leaves[leaf]["bitmap"] == _U0:
        leaf = np.int64(leaves[leaf]["lower"])
    if leaf == 0:
        return leaf
    return leaf << 6 | highest(leaves[leaf]["bitmap"])


@njit_inlined
def price_of(state, level):
    """Price in ticks of a level with orders."""
    return prefix_of(state, level >> 6) << 6 | (level & 63)


@njit_inlined
def _place_of(leaves, leaf, offset):
    """Entry of ``levels`` of a price of a leaf with a block."""
    row = leaves[leaf]
    if np.int64(row["tail"]) >= WIDE:
        return np.int64(row["head"]) + 1 + offset
    return np.int64(row["head"]) + 1 + ones(row["bitmap"] & below(offset))


@njit_inlined
def head_of(state, level):
    """First order of a level with orders."""
    row = state.leaves[level >> 6]
    if np.int64(row["tail"]) >= MANY:
        return np.int64(state.levels[_place_of(state.leaves, level >> 6, level & 63)]["head"])
    return np.int64(row["head"])


@njit_called
def tail_of(state, level):
    """Last order of a level with orders."""
    row = state.leaves[level >> 6]
    if np.int64(row["tail"]) >= MANY:
        return np.int64(state.levels[_place_of(state.leaves, level >> 6, level & 63)]["tail"])
    return np.int64(row["tail"])


@njit_called
def set_ends(state, level, head, tail):
    """Other first and last orders for a level with orders; 0 = as it is."""
    row = state.leaves[level >> 6]
    if np.int64(row["tail"]) >= MANY:
        queue = state.levels[_place_of(state.leaves, level >> 6, level & 63)]
        queue["head"] = head if head != 0 else np.int64(queue["head"])
        queue["tail"] = tail if tail != 0 else np.int64(queue["tail"])
        return
    row["head"] = head if head != 0 else np.int64(row["head"])
    row["tail"] = tail if tail != 0 else np.int64(row["tail"])


@njit_inlined
def join_wide(state, leaf, offset, slot):
    """Put an order to the back of a level of a wide leaf; returns the level."""
    orders = state.orders
    row = state.leaves[leaf]
    row["bitmap"] |= bit(offset)
    queue = state.levels[np.int64(row["head"]) + 1 + offset]
    head = np.int64(queue["head"])
    tail = np.int64(queue["tail"])
    queue["head"] = slot if head == 0 else head
    queue["tail"] = slot
    orders[tail]["next"] = slot
    order = orders[slot]
    order["prev"] = tail
    order["next"] = 0
    level = leaf << 6 | offset
    order["level"] = level
    return level


@njit_called
def join(state, book, price_ticks, slot):
    """Put an order to the back of the level of its price, whatever leaf that has, if any; returns the level."""
    prefix = price_ticks >> 6
    offset = price_ticks & 63
    leaf = find_leaf(state, book, prefix)
    if leaf != 0 and np.int64(state.leaves[leaf]["tail"]) >= WIDE:
        return join_wide(state, leaf, offset, slot)
    before = np.int64(0)
    if leaf == 0:
        leaf = _make_leaf(state, book, prefix, slot, offset)
    elif state.leaves[leaf]["tail"] == 0:
        _use_kept(state, leaf, slot, offset)
    else:
        before = _join_level(state, leaf, book, prefix, offset, slot)
    order = state.orders[slot]
    level = leaf << 6 | offset
    state.orders[before]["next"] = slot
    order["prev"] = before
    order["next"] = 0
    order["level"] = level
    return level


@njit_called
def _join_level(state, leaf, book, prefix, offset, slot):
    """Enter an order at a price of a leaf that is not wide; returns the one before it at that price, or 0."""
    row = state.leaves[leaf]
    if row["bitmap"] & bit(offset) != _U0:
        level = leaf << 6 | offset
        before = tail_of(state, level)
        set_ends(state, level, 0, slot)
        return before
    size = _size_of(np.int64(row["tail"]))
    if size == _ONE_PRICE:
        _share_leaf(state, leaf, book, prefix, offset, slot)
        return np.int64(0)
    count = ones(row["bitmap"])
    if count == 4 << 2 * size:
        _move_levels(state, leaf, prefix, size, size + 1)
    place = _place_of(state.leaves, leaf, offset)
    if np.int64(row["tail"]) < WIDE:
        last = np.int64(row["head"]) + 1 + count
        while last > place:
            _copy_level(state.levels, last - 1, last)
            last -= 1
    state.levels[place]["head"] = slot
    state.levels[place]["tail"] = slot
    row["bitmap"] |= bit(offset)
    return np.int64(0)


@njit_inlined
def _share_leaf(state, leaf, book, prefix, offset, slot):
    """Give a leaf with one price a block for two, of which the new one has one order."""
    levels = state.levels
    row = state.leaves[leaf]
    block = _new_block(state, 0)
    _set_prefix(levels, block, prefix)
    place = block + 1
    if lowest(row["bitmap"]) > offset:
        place = block + 2
    levels[place]["head"] = row["head"]
    levels[place]["tail"] = row["tail"]
    place = 2 * block + 3 - place
    levels[place]["head"] = slot
    levels[place]["tail"] = slot
    row["head"] = block
    row["tail"] = MANY | book
    row["bitmap"] |= bit(offset)


@njit_called
def close_level(state, leaf, book, prefix, offset):
    """Forget the level of a price of a leaf that is not wide, as its last order leaves."""
    levels = state.levels
    row = state.leaves[leaf]
    tail = np.int64(row["tail"])
    if tail < MANY:
        _keep_leaf(state, leaf, book, prefix)
        return
    place = _place_of(state.leaves, leaf, offset)
    row["bitmap"] &= ~bit(offset)
    block = np.int64(row["head"])
    count = ones(row["bitmap"])
    last = block + 1 + count
    while place < last:
        _copy_level(levels, place + 1, place)
        place += 1
    levels[last]["head"] = 0
    levels[last]["tail"] = 0
    if count == 1:
        row["head"] = levels[block + 1]["head"]
        row["tail"] = levels[block + 1]["tail"]
        levels[block + 1]["head"] = 0
        levels[block + 1]["tail"] = 0
        _free_block(state, block, 0)
    elif tail >= MANY | 1 << SIZE_SHIFT and count < BLOCK_FEWEST[1]:
        _move_levels(state, leaf, prefix, 1, 0)


@njit_called
def thin_leaf(state, leaf, prefix):
    """Give back the block of a wide leaf with few prices, for a smaller one."""
    _move_levels(state, leaf, prefix, BLOCK_SIZES - 1, BLOCK_SIZES - 2)


@njit_inlined
def _size_of(tail):
    """Size of the block of a leaf by its tail."""
    return (tail >> SIZE_SHIFT) & _SIZE_MASK if tail >= MANY else np.int64(_ONE_PRICE)


@njit_inlined
def _copy_level(levels, source, target):
    levels[target]["head"] = levels[source]["head"]
    levels[target]["tail"] = levels[source]["tail"]


@njit_inlined
def _set_prefix(levels, block, prefix):
    levels[block]["head"] = prefix & _HALF_MASK
    levels[block]["tail"] = prefix >> _HALF


@njit_called
def _move_levels(state, leaf, prefix, old_size, size):
    """Give a leaf with a block one of another size: its levels go there."""
    levels = state.levels
    row = state.leaves[leaf]
    old = np.int64(row["head"])
    new = _new_block(state, size)
    _set_prefix(levels, new, prefix)
    row["head"] = new
    row["tail"] = MANY | size << SIZE_SHIFT | (np.int64(row["tail"]) & BOOK_MASK)
    word = row["bitmap"]
    rank = np.int64(1)
    while word != _U0:
        offset = lowest(word)
        word &= above(offset)
        source = old + (1 + offset if old_size == BLOCK_SIZES - 1 else rank)
        target = new + (1 + offset if size == BLOCK_SIZES - 1 else rank)
        _copy_level(levels, source, target)
        levels[source]["head"] = 0
        levels[source]["tail"] = 0
        rank += 1
    _free_block(state, old, old_size)


@njit_called
def _new_block(state, size):
    """A block of empty levels."""
    meta = state.meta
    block = meta[LEVELS_FREE + size]
    if block != 0:
        meta[LEVELS_FREE + size] = state.levels[block]["head"]
        return block
    block = meta[LEVELS_USED] + 1
    meta[LEVELS_USED] += 1 + (4 << 2 * size)
    assert meta[LEVELS_USED] < state.levels.shape[0], "blocks do not run out before orders and leaves do"
    return block


@njit_called
def _free_block(state, block, size):
    state.levels[block]["head"] = state.meta[LEVELS_FREE + size]
    state.levels[block]["tail"] = 0
    state.meta[LEVELS_FREE + size] = block


# --- the tree --------------------------------------------------------------------------------------------------------


@njit_inlined
def _way(prefix, word):
    """Which child of the node that a word names leads to a prefix."""
    return (prefix >> (word >> CHILD_SHIFT)) & 1


@njit_called
def lowest_level(state, book):
    """Level of the lowest price of a book, or 0."""
    word = np.int64(state.books[book]["root"])
    while 0 < word < AT_LEAF:
        word = np.int64(state.nodes[word & CHILD_MASK]["child"][0])
    leaf = word & CHILD_MASK
    if leaf != 0 and state.leaves[leaf]["bitmap"] != _U0:
        return leaf << 6 | lowest(state.leaves[leaf]["bitmap"])
    return next_level_up(state.leaves, leaf << 6 | 63) if leaf != 0 else leaf


@njit_called
def _enter_tree(state, book, prefix, leaf):
    """Enter a leaf in the tree and the list of its book: at the highest bit in which it differs from what is nearest to it."""
    meta = state.meta
    nodes = state.nodes
    leaves = state.leaves
    row = state.books[book]
    root = np.int64(row["root"])
    if root == 0:
        row["root"] = AT_LEAF | leaf
        leaves[leaf]["lower"] = 0
        leaves[leaf]["higher"] = 0
        return
    lower = np.int64(row["best_level"][BUY]) >> 6
    higher = np.int64(row["best_level"][SELL]) >> 6
    bid_prefix = row["best_ticks"][BUY] >> 6
    ask_prefix = row["best_ticks"][SELL] >> 6
    # Most leaves come and go in the gap between the best prices, where the neighbours are known, unless empty ones stay there.
    in_gap = (
        bid_prefix < prefix < ask_prefix
        and lower + higher != 0
        and np.int64(leaves[lower]["higher"] if lower != 0 else leaves[higher]["lower"])
        == (higher if lower != 0 else 0)
    )
    if in_gap:
        differs = prefix ^ ask_prefix
        if lower != 0:
            differs = min(differs, prefix ^ bid_prefix)
    else:
        word = root
        while word < AT_LEAF:
            word = np.int64(nodes[word & CHILD_MASK]["child"][_way(prefix, word)])
        differs = prefix ^ prefix_of(state, word & CHILD_MASK)
    assert differs != 0, "a leaf is made once"
    fork = highest(np.uint64(differs))

    node = meta[NODES_FREE]
    if node != 0:
        meta[NODES_FREE] = nodes[node]["child"][0]
    else:
        meta[NODES_USED] += 1
        node = meta[NODES_USED]
    over = np.int64(0)
    over_way = np.int64(0)
    word = root
    while word < AT_LEAF and word >> CHILD_SHIFT > fork:
        over = word & CHILD_MASK
        over_way = _way(prefix, word)
        word = np.int64(nodes[over]["child"][over_way])
    way = (prefix >> fork) & 1
    nodes[node]["child"][way] = AT_LEAF | leaf
    nodes[node]["child"][1 - way] = word
    if over == 0:
        row["root"] = fork << CHILD_SHIFT | node
    else:
        nodes[over]["child"][over_way] = fork << CHILD_SHIFT | node

    if not in_gap:
        # The new leaf lies above all that is in the other child, or below it.
        while word < AT_LEAF:
            word = np.int64(nodes[word & CHILD_MASK]["child"][way])
        near = word & CHILD_MASK
        lower = near if way == 1 else np.int64(leaves[near]["lower"])
        higher = near if way == 0 else np.int64(leaves[near]["higher"])
    leaves[leaf]["lower"] = lower
    leaves[leaf]["higher"] = higher
    leaves[lower]["higher"] = leaf
    leaves[higher]["lower"] = leaf


@njit_called
def _leave_tree(state, book, prefix):
    """Take a leaf out of the tree of its book, with the fork above it."""
    nodes = state.nodes
    row = state.books[book]
    word = np.int64(row["root"])
    over = np.int64(0)
    over_way = np.int64(0)
    node = np.int64(0)
    way = np.int64(0)
    while word < AT_LEAF:
        over = node
        over_way = way
        node = word & CHILD_MASK
        way = _way(prefix, word)
        word = np.int64(nodes[node]["child"][way])
    if node == 0:
        row["root"] = 0
        return
    other = np.int64(nodes[node]["child"][1 - way])
    if over == 0:
        row["root"] = other
    else:
        nodes[over]["child"][over_way] = other
    nodes[node]["child"][0] = state.meta[NODES_FREE]
    nodes[node]["child"][1] = 0
    state.meta[NODES_FREE] = node
