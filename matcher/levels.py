"""Price levels of books of any width: leaves of 64 prices found by hash, linked by price, below a tree of bitmaps.

* A *leaf* holds 64 neighbouring prices of a book: one bit and one FIFO each. It is found by (book, price
  >> 6) in a table whose lines hold 16 neighbouring leaves, and exists only while an order rests in it.
* Leaves of a book form a doubly linked list in price order, so that the next best price is a bit scan, or a
  link and a bit scan.
* *Nodes* are bitmaps of the depths above, kept by (book, depth, prefix) in a hash table. They are touched only
  when a leaf is made or dropped: they find the place of a new leaf in the list.

The cost of any step depends neither on the distance between prices nor on the number of levels.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from matcher.jit import njit_called, njit_inlined
from matcher.state import (
    DEPTH_MAX,
    LEAF_TABLE_SHIFT,
    LEAVES_FREE,
    LEAVES_LIVE,
    LEAVES_USED,
    NODE_SHIFT,
    NODES_LIVE,
)
from protocol.enums import BUY
from ringbuf.bits import PHI, above, add, below, bit, highest, lowest, multiply

_U0: Final = np.uint64(0)
_BOOK: Final = np.uint64(0xD6E8FEB86659FD93)  # odd, to spread instruments over the tables
_DEPTH: Final = np.uint64(0xA0761D6478BD642F)


@njit_inlined
def _leaf_home(meta, book, prefix):
    word = add(multiply(np.uint64(book), _BOOK), prefix >> 4)
    return np.int64(multiply(word, PHI) >> np.uint64(meta[LEAF_TABLE_SHIFT])) << 4 | (prefix & 15)


@njit_inlined
def find_leaf(state, book, prefix):
    """Leaf of (book, price >> 6), or 0."""
    table = state.leaf_table
    leaves = state.leaves
    mask = np.int64(table.shape[0] - 1)
    i = _leaf_home(state.meta, book, prefix)
    while True:
        leaf = np.int64(table[i])
        if leaf == 0 or (leaves[leaf]["prefix"] == prefix and leaves[leaf]["book"] == book):
            return leaf
        i = (i + 1) & mask


@njit_inlined
def leaf_available(state):
    """Whether another leaf can be made."""
    return state.meta[LEAVES_LIVE] < state.leaves.shape[0] - 1


@njit_called
def make_leaf(state, book, prefix):
    """A new leaf, empty and in its place in the list; the caller puts an order in. One must be available."""
    meta = state.meta
    leaves = state.leaves
    assert leaf_available(state), "a leaf is available"
    leaf = meta[LEAVES_FREE]
    if leaf != 0:
        meta[LEAVES_FREE] = leaves[leaf]["higher"]
    else:
        meta[LEAVES_USED] += 1
        leaf = meta[LEAVES_USED]
    meta[LEAVES_LIVE] += 1
    leaves[leaf]["prefix"] = prefix
    leaves[leaf]["book"] = book
    leaves[leaf]["bitmap"] = _U0

    lower = _leaf_below(state, book, prefix)
    row = state.books[book]
    higher = np.int64(leaves[lower]["higher"]) if lower != 0 else np.int64(row["lowest_leaf"])
    leaves[leaf]["lower"] = lower
    leaves[leaf]["higher"] = higher
    leaves[lower]["higher"] = leaf
    leaves[higher]["lower"] = leaf
    if lower == 0:
        row["lowest_leaf"] = leaf
    if higher == 0:
        row["highest_leaf"] = leaf

    table = state.leaf_table
    mask = np.int64(table.shape[0] - 1)
    i = _leaf_home(meta, book, prefix)
    while table[i] != 0:
        i = (i + 1) & mask
    table[i] = leaf
    _mark(state, book, prefix)
    return leaf


@njit_called
def drop_leaf(state, leaf):
    """Give back a leaf that has become empty."""
    meta = state.meta
    leaves = state.leaves
    book = np.int64(leaves[leaf]["book"])
    prefix = leaves[leaf]["prefix"]
    assert leaves[leaf]["bitmap"] == _U0, "only an empty leaf is dropped"
    _unmark(state, book, prefix)

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
        home = _leaf_home(meta, np.int64(leaves[other]["book"]), leaves[other]["prefix"])
        if (i - home) & mask >= (i - hole) & mask:
            table[hole] = other
            hole = i
    table[hole] = 0

    lower = np.int64(leaves[leaf]["lower"])
    higher = np.int64(leaves[leaf]["higher"])
    leaves[lower]["higher"] = higher
    leaves[higher]["lower"] = lower
    row = state.books[book]
    if lower == 0:
        row["lowest_leaf"] = higher
    if higher == 0:
        row["highest_leaf"] = lower
    leaves[leaf]["higher"] = meta[LEAVES_FREE]
    meta[LEAVES_FREE] = leaf
    meta[LEAVES_LIVE] -= 1


@njit_inlined
def next_level_up(leaves, level):
    """Level of the next higher price with orders, or 0."""
    leaf = level >> 6
    word = leaves[leaf]["bitmap"] & above(level & 63)
    if word != _U0:
        return leaf << 6 | lowest(word)
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
    leaf = np.int64(leaves[leaf]["lower"])
    if leaf == 0:
        return leaf
    return leaf << 6 | highest(leaves[leaf]["bitmap"])


@njit_inlined
def price_of(leaves, level):
    """Price in ticks of a level."""
    return leaves[level >> 6]["prefix"] << 6 | (level & 63)


@njit_inlined
def _node_home(meta, book, depth, prefix):
    word = add(multiply(np.uint64(book), _BOOK), multiply(np.uint64(depth), _DEPTH))
    return np.int64(multiply(add(word, prefix), PHI) >> np.uint64(meta[NODE_SHIFT]))


@njit_inlined
def _seek_node(state, book, depth, prefix):
    """Place of a node in the table, or the free place where it would stand."""
    nodes = state.nodes
    mask = np.int64(nodes.shape[0] - 1)
    i = _node_home(state.meta, book, depth, prefix)
    while nodes[i]["bitmap"] != _U0 and not (
        nodes[i]["prefix"] == prefix and nodes[i]["depth"] == depth and nodes[i]["book"] == book
    ):
        i = (i + 1) & mask
    return i


@njit_called
def _leaf_below(state, book, prefix):
    """Highest leaf of the book below ``prefix``, or 0: up to the first node with a lower child, then down."""
    nodes = state.nodes
    row = state.books[book]
    lowest_leaf = np.int64(row["lowest_leaf"])
    if lowest_leaf == 0 or prefix < state.leaves[lowest_leaf]["prefix"]:
        return np.int64(0)
    highest_leaf = np.int64(row["highest_leaf"])
    if prefix > state.leaves[highest_leaf]["prefix"]:
        return highest_leaf
    # Most leaves come and go in the gap between the best prices.
    best_bid_leaf = np.int64(row["best_level"][BUY]) >> 6
    if best_bid_leaf != 0 and state.leaves[best_bid_leaf]["prefix"] < prefix:
        above_it = np.int64(state.leaves[best_bid_leaf]["higher"])
        if prefix < state.leaves[above_it]["prefix"]:
            return best_bid_leaf
    depth = 0
    word = _U0
    while word == _U0:
        depth += 1
        assert depth <= DEPTH_MAX, "a leaf that is not the lowest has one below it"
        node = nodes[_seek_node(state, book, depth, prefix >> 6)]
        word = node["bitmap"] & below(prefix & 63)
        prefix >>= 6
    prefix = prefix << 6 | highest(word)
    while depth > 1:
        depth -= 1
        prefix = prefix << 6 | highest(nodes[_seek_node(state, book, depth, prefix)]["bitmap"])
    return find_leaf(state, book, prefix)


@njit_called
def _mark(state, book, prefix):
    """Enter a leaf in the nodes above it, up to the first that was there already."""
    nodes = state.nodes
    for depth in range(1, DEPTH_MAX + 1):
        child = bit(prefix & 63)
        prefix >>= 6
        i = _seek_node(state, book, depth, prefix)
        before = nodes[i]["bitmap"]
        nodes[i]["bitmap"] = before | child
        if before != _U0:
            return
        nodes[i]["prefix"] = prefix
        nodes[i]["book"] = book
        nodes[i]["depth"] = depth
        state.meta[NODES_LIVE] += 1
    assert prefix == 0, "the root covers all prices"


@njit_called
def _unmark(state, book, prefix):
    """Take a leaf out of the nodes above it, up to the first that keeps another child."""
    nodes = state.nodes
    for depth in range(1, DEPTH_MAX + 1):
        child = bit(prefix & 63)
        prefix >>= 6
        i = _seek_node(state, book, depth, prefix)
        after = nodes[i]["bitmap"] & ~child
        nodes[i]["bitmap"] = after
        if after != _U0:
            return
        _free_node(state, i)


@njit_called
def _free_node(state, hole):
    """Close the gap that a node leaves in the table."""
    nodes = state.nodes
    mask = np.int64(nodes.shape[0] - 1)
    state.meta[NODES_LIVE] -= 1
    i = hole
    while True:
        i = (i + 1) & mask
        if nodes[i]["bitmap"] == _U0:
            break
        home = _node_home(state.meta, np.int64(nodes[i]["book"]), np.int64(nodes[i]["depth"]), nodes[i]["prefix"])
        if (i - home) & mask >= (i - hole) & mask:
            nodes[hole]["prefix"] = nodes[i]["prefix"]
            nodes[hole]["bitmap"] = nodes[i]["bitmap"]
            nodes[hole]["book"] = nodes[i]["book"]
            nodes[hole]["depth"] = nodes[i]["depth"]
            hole = i
    nodes[hole]["bitmap"] = _U0
