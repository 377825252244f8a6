"""How long a claim lives, and what of it is over; milliseconds on the store's clock."""

from __future__ import annotations

from .records import FOREVER, LINGER, Claim


def prune(claim: Claim, now: int) -> Claim:
    """Forget what time has ended."""
    value = claim.value
    if value is not None and now >= max(value.fresh, value.stale, value.kept):
        value = None
    tombstones = {name: until for name, until in claim.tombstones.items() if now < until}
    arrivals = {name: until for name, until in claim.arrivals.items() if now < until}
    return Claim(holder=claim.holder, value=value, tombstones=tombstones, arrivals=arrivals)


def expiry(claim: Claim) -> int:
    """When the store may drop the claim; `FOREVER` for never, 0 for at once."""
    ends = [*claim.tombstones.values(), *claim.arrivals.values()]
    if claim.holder is not None:
        ends.append(claim.holder.until + LINGER)
    if claim.value is not None:
        ends += (claim.value.fresh, claim.value.stale, claim.value.kept)
    return min(max(ends, default=0), FOREVER)


def later(now: int, length: int) -> int:
    return min(now + length, FOREVER)
