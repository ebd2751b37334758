"""One screen about a tour, for a person."""

from __future__ import annotations

from typing import Any, Final

_SHOWN_MAX: Final = 5
"""Losses named on the screen; stderr has all of them."""


def screen(found: dict[str, Any]) -> list[str]:
    """Lines about what ``cambist.tour.guide.tour`` found."""
    killed, recovered, counts, verified = (found[name] for name in ("killed", "recovered", "acknowledged", "verify"))
    numbered = counts["all"]
    resting, balances = found["resting"], found["balances"]
    rows = [
        (
            "killed",
            f"{killed['name']}, process {killed['pid']}, by kill -9 under {found['load_per_s']:,} commands a second",
        ),
        (
            "",
            f"{killed['in_flight']} requests of the tour in flight, journal durable up to seq {killed['durable_seq']:,}",
        ),
        ("back after", f"{recovered['serving_ms']:.0f} ms, until the first new order was acknowledged"),
        (
            "",
            (
                f"death noticed {recovered['noticed_ms']:.0f} ms, {recovered['seq']:,} commands replayed and "
                f"engine running {recovered['running_ms']:.0f} ms after the kill"
            ),
        ),
        ("", f"longest time without an acknowledgement {recovered['silence_ms']:.0f} ms"),
        (
            "acknowledged",
            (
                f"{counts['before']:,} before the kill, {counts['across']:,} sent before and answered after, "
                f"{counts['after']:,} after"
            ),
        ),
        (
            "",
            (
                f"{counts['turned_away']:,} turned away unnumbered while the engine was down, safe to send again; "
                f"{counts['unknown']:,} of unknown outcome"
            ),
        ),
        ("looked up", f"{found['as_told']:,} of {numbered:,} are in the journal as the client was told"),
        (
            "in the books",
            f"{resting['due']:,} orders ought to rest; {_differ(resting['wrong'])}",
        ),
        (
            "balances",
            f"of {balances['accounts']} accounts after {counts['trades']:,} trades; {_differ(balances['wrong'])}",
        ),
        ("money", "conserved in every asset" if verified["conserved"] else "NOT CONSERVED"),
        (
            "verify",
            (
                f"{'all agrees' if verified['ok'] else 'DIFFERENT'}: {verified['last_seq']:,} commands rebuilt, "
                f"{verified['checkpoints']} checkpoints of the live engine compared"
            ),
        ),
        ("lost", "nothing" if not found["lost"] else f"SOMETHING: {len(found['lost'])} differences"),
    ]
    lines = ["", *(f"  {name:<14}{text}" for name, text in rows)]
    lines += [f"  {'':<14}{text}" for text in found["lost"][:_SHOWN_MAX]]
    if found["lost"] and found["kept"]:
        lines.append(f"  {'':<14}the home is kept in {found['home']}")
    return [*lines, ""]


def _differ(count: int) -> str:
    return "each is there as told" if count == 0 else f"{count} DIFFER"
