"""The books: price-time priority in compiled kernels, one shard a process, many instruments a shard.

Where to look: ``state`` (records and limits), ``levels`` (price levels of books of any width), ``book`` (orders on and off
the book, trading), ``commands`` (one function a command type), ``kernel`` (commands in, events out, resumable), ``views``
(depth and summaries), ``hashes`` (state and events, independent of
storage). A kernel reads no clock, file, float or random number.
"""
