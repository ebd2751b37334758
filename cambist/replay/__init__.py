"""Recordings as command slots, and the engine's outcomes as the numbers that scripts rely on.

Where to look: ``plan`` (what a replay sends; ``load`` reads any recording), ``convert`` (steps to numbered slots),
``recordings``, ``xflow`` and ``journals`` (the formats), ``collect`` (outcomes to fills, verdicts and books), ``truth``
(what the venues really did), ``report``.
"""
