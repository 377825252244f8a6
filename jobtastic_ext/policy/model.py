"""What a policy means, as frozen data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from ..claims.records import Terms
from ..keys.call_key import call_key
from ..keys.signature import CallSignature
from ..keys.vary import Vary
from .converters import Converter

OnBrokerError = Literal["raise", "eager", "fail"]
OnStoreError = Literal["run", "raise"]
OnDuplicate = Literal["join", "serialize", "raise", "buffer_one"]
UniqueUntil = Literal["end", "start"]
Whose = Literal["first", "last"]
MemleakAction = Literal["log", "recycle"]


class Significant(Struct, frozen=True):
    """One argument that tells calls apart."""

    name: str
    #: As written; None where the policy names no converter.
    converter: str | None = None
    #: The callable that ``converter`` means.
    convert: Converter | None = None


class TaskPolicy(Struct, frozen=True, kw_only=True):
    """What holds for one task.  Durations are seconds; `math.inf` is for ever."""

    #: The task name or glob in the policy that matched.
    pattern: str
    #: None: every argument.
    significant_kwargs: tuple[Significant, ...] | None = None
    herd_avoidance_timeout: float = 60.0
    #: None: results are not reused.
    cache_duration: float | None = None
    #: None: the task's name.
    cache_prefix: str | None = None
    #: MB (1,000,000 bytes) of growth in one run; None: off.
    memleak_threshold: float | None = None
    #: Watch for growth that persists over runs, too.  Means nothing without a threshold.
    memleak_trend: bool = True
    #: How many call sites a report names; 0: none, and no run is traced.
    memleak_trace: int = 0
    memleak_action: MemleakAction = "log"
    on_broker_error: OnBrokerError = "raise"
    on_store_error: OnStoreError = "run"
    #: What counts beside the arguments: ``headers``, ``headers.NAME``, ``queue``.
    vary: tuple[str, ...] = ("headers", "queue")
    on_duplicate: OnDuplicate = "join"
    unique_until: UniqueUntil = "end"
    unique_for: float = 0.0
    #: 0: a run begins as soon as it can.
    debounce: float = 0.0
    #: None: ten times `debounce`.
    debounce_max: float | None = None
    #: Whose arguments a run that waits is given, where they are not significant.
    arguments: Whose = "first"
    stale_while_revalidate: float = 0.0
    #: None: failures are not shared.
    failure_cache_duration: float | None = None
    shadow: bool = False
    #: None: one history of durations for the whole task.
    estimate_by: tuple[Significant, ...] | None = None


class Plan(Terms, frozen=True, kw_only=True):
    """A task's policy, ready for use."""

    policy: TaskPolicy
    signature: CallSignature
    vary: Vary
    significant: tuple[tuple[str, Callable[[Any], Any] | None], ...] | None
    #: The arguments on which the duration depends; None: it is the same for every call.
    estimate_by: tuple[tuple[str, Callable[[Any], Any] | None], ...] | None
    key_prefix: str
    cache_prefix: str
    #: What every key of this task begins with.
    key_head: str
    #: Identical calls share a run or a result (or, if `exclusive`, take turns).
    shares: bool

    def key(
        self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, vary: Any = None
    ) -> str:
        """Return the call key; `vary` is what counts beside the arguments.

        Raises `ArgumentNotEncodable`, `ArgumentUnknown`, or TypeError for wrong arguments.
        """
        return call_key(
            self.key_prefix,
            self.cache_prefix,
            self.signature,
            self.significant,
            tuple(args or ()),
            kwargs or {},
            vary,
        )
