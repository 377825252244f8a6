"""How long a claim lives, and what of it is over; milliseconds on the store's clock."""

from __future__ import annotations

from msgspec.structs import replace

from .records import FOREVER, LINGER, Claim


def prune(claim: Claim, now: int) -> Claim:
    """Forget what time has ended."""
    value, started = claim.value, claim.started
    if value is not None and now >= max(value.fresh, value.stale, value.kept):
        value = None
    if started is not None and now >= started.until:
        started = None
    return replace(
        claim,
        value=value,
        started=started,
        beside={name: run for name, run in claim.beside.items() if now < run.until + LINGER},
        tombstones={name: until for name, until in claim.tombstones.items() if now < until},
        arrivals={name: until for name, until in claim.arrivals.items() if now < until},
    )


def expiry(claim: Claim) -> int:
    """When the store may drop the claim; `FOREVER` for never, 0 for at once."""
    ends = [*claim.tombstones.values(), *claim.arrivals.values()]
    ends += [run.until + LINGER for run in claim.beside.values()]
    if claim.holder is not None:
        ends.append(claim.holder.until + LINGER)
    if claim.value is not None:
        ends += (claim.value.fresh, claim.value.stale, claim.value.kept)
    if claim.started is not None:
        ends.append(claim.started.until)
    return min(max(ends, default=0), FOREVER)


def later(now: int, length: int) -> int:
    return min(now + length, FOREVER)
