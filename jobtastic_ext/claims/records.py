"""Plain frozen data: what the store holds under a key, what it is asked, what it answers.

All times are whole milliseconds.  In a `Claim` they are points on the store's own clock; in an
operation they are lengths.  Every record encodes to JSON, so that a claim can be read by eye.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

#: The end of time, in milliseconds: 14 digits, the most that Redis' JSON encoder writes in full.
FOREVER = 90_000_000_000_000

#: The most ids that one claim remembers beside its own.
MOST_ORPHANS = 32

#: The most tombstones that one claim remembers, and the most arrivals; the oldest go first.
MOST_MARKS = 32

#: How long a lapsed claim, or a result that somebody still waits for, is remembered.
LINGER = 3_600_000

#: The most places at which messages of one call are parked; those elsewhere wake by themselves.
MOST_PLACES = 8

#: The most runs that one claim remembers beside its holder (`unique_until: start`).
MOST_BESIDE = 32

#: How long a claim may be queued before those who join it look whether its task has ended all the
#: same: in a worker without the plugin or the task, or where the store did not answer.
MOMENT = 1_000


class Terms(Struct, frozen=True, kw_only=True):
    """On what terms identical calls share; a `Plan` has more.  Times are whole milliseconds."""

    #: Runs take turns, and share nothing.
    exclusive: bool = False
    #: A call that comes while one runs is answered by one more run, which begins after it.
    buffers: bool = False
    #: A run begins when there has been no call for so long, at the latest so long after the first.
    debounce: int = 0
    debounce_max: int = 0
    #: A run that waits gets the arguments of the newest call (``arguments: last``).
    newest: bool = False
    #: Nobody can read how a run ended: calls share runs, and nothing else.
    blind: bool = False
    #: A run that has begun holds nobody up.
    starts: bool = False
    #: At most one start in this time, counted from the start.
    unique: int = 0
    lease: int = 0
    herd: int = 0
    #: How long a queued message is believed to be on its way before it is sent again.
    hold: int = 0
    fresh: int = 0
    stale: int = 0
    failure_fresh: int = 0
    #: How long the end of a run is remembered for late copies of its message.
    keep: int = 0


class Holder(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Who has the right to run this call now."""

    state: Literal["queued", "running"]
    #: Task id whose result everybody waits for.
    owner: str
    #: Generation: everything claimed, joined or taken over from the first claim to its end.
    gen: str
    #: Token of the single run; empty while queued.
    run: str = ""
    #: Queued: after this the next call sends the message again.  Running: end of the lease.
    until: int
    #: Queued: since when, or when it was sent again.  Running: since when.
    at: int = 0
    #: Queued: when a caller last looked whether its task has ended all the same; of one that waits
    #: until it is due, when its message is expected.
    looked: int = 0
    #: Running: identical calls join until then.
    herd: int = 0
    #: Retries so far; a message of an earlier attempt is a late copy.
    attempt: int = 0
    #: When the queued message expires; 0: never.
    expires: int = 0
    #: A published message waits for this generation, so its end must be remembered.
    followed: bool = False
    group: str = ""
    #: A refresh that runs after the present run, with its own generation.
    next: str = ""
    next_gen: str = ""
    #: When the first call came that it is to serve, and when it is due; 0: at once.
    next_at: int = 0
    next_due: int = 0
    next_arguments: str = ""
    #: Queued: nobody begins it before.
    due: int = 0
    #: A refresh had it run before its message was to come, which is then: it asks for the outcome.
    outrun: int = 0
    #: What its run is given instead of the arguments of its message; empty: those.
    arguments: str = ""
    #: The body is over; its outcome is being stored.
    ending: bool = False
    #: The store sees results, so nobody says when the body has returned: who joins looks.
    unmarked: bool = False
    #: Queued: whose call has sent the message again, under the same id; the generation it wanted.
    taker: str = ""
    #: The message that runs is such a copy: it has none of the first one's callbacks.
    bare: bool = False
    #: Ids whose claim was taken away, and whose callers get the outcome of this run.
    orphans: tuple[str, ...] = ()
    #: Where messages are parked until this ends, as the broker's lines name it, with a space
    #: between two; empty if none are.  Whoever ends it wakes them.
    waiting: str = ""
    #: Queued: nobody's; it is kept for whoever was woken, lest a later call passes the line.
    line: bool = False


class Value(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The last run that ended: whose result may be shared, and until when."""

    owner: str
    gen: str
    group: str = ""
    failed: bool = False
    bare: bool = False
    attempt: int = 0
    #: When the run began, and ended.
    began: int = 0
    ended: int = 0
    #: Identical calls reuse the result until then.
    fresh: int = 0
    #: Identical calls are served the result until then, while one of them refreshes it.
    stale: int = 0
    #: Until then the end is remembered for messages of this generation and late copies.
    kept: int = 0


class Started(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The last start after which no other one may follow for a time."""

    owner: str
    gen: str
    at: int
    #: When it need not be remembered any more.
    until: int
    #: Its run was let go without a result (`Ignore`), or left it to the task that replaces it.
    silent: bool = False


class Claim(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """All that the store holds under one call key."""

    holder: Holder | None = None
    value: Value | None = None
    started: Started | None = None
    #: Task id -> the run of it, or its retry, that holds nobody up (`unique_until: start`).
    beside: dict[str, Holder] = {}
    #: ``gen:task id`` of messages whose sender gave up -> until when they are dropped.
    tombstones: dict[str, int] = {}
    #: The same of messages that have arrived, lest their sender gives them up.
    arrivals: dict[str, int] = {}

    @property
    def owners(self) -> set[str]:
        """The tasks whose runs, or queued messages, are known here."""
        parts = (self.holder, self.value, self.started)
        return {*self.beside, *(part.owner for part in parts if part is not None)}

    def run_of(self, task_id: str) -> Holder | None:
        """The run of a task, or what is queued of it."""
        held = self.holder is not None and self.holder.owner == task_id
        return self.beside.get(task_id) or (self.holder if held else None)


#: The claim on a key that nobody has called, or whose time is over.
EMPTY = Claim()


class ClaimCall(Struct, frozen=True, omit_defaults=True, kw_only=True, tag="claim", tag_field="op"):
    """A caller asks for the right to publish.

    Answers ``claimed``, ``buffered`` (claimed, for after the run that holds it), ``takeover``
    (publish under that id), ``joined``, ``ending`` (joined, but its outcome may be known already),
    ``unmarked`` (joined, but it may have ended with success a moment ago), ``started`` (joined a
    run that is unique for a time, and may have failed a moment ago), ``ended`` (the same, but it is
    over, and its result may be gone), ``overdue`` (joined, but it
    has waited for a while and may have ended long ago), ``hastened`` (joined, and what was not
    due yet is due now: publish under that id), ``cached``, ``stale`` (served, somebody
    else refreshes), ``refresh`` (served, and this call publishes the refresh) or ``free`` (publish,
    no claim).  What is to be published is due in `rest`.
    """

    task_id: str
    gen: str
    #: How long the message is believed to be on its way; 0 asks for a cached result only.
    hold: int
    #: The id is the caller's, so the message is published whatever the answer.
    pinned: bool = False
    refresh: bool = False
    #: While another call runs, only a run that begins later will do (`on_duplicate: buffer_one`).
    buffer: bool = False
    #: At most one start in this time.
    unique: int = 0
    #: It is due when there has been no call for so long, at the latest so long after the first one.
    debounce: int = 0
    debounce_max: int = 0
    #: It is due no sooner than in so long.
    countdown: int = 0
    #: What a run that has not begun is to be given instead of its first caller's arguments.
    arguments: str = ""
    #: In how long the message of this call would expire; 0: never.
    expires: int = 0
    group: str = ""
    #: Task id that must not be joined or reused: its result is gone, or final already.
    gone: str = ""
    #: It is final: what the run has left in the claim, perhaps just now, serves while it is fresh.
    readable: bool = False
    #: It ended with success, so that its start counts where there is to be one in a time.
    well: bool = False

    @property
    def wants_later(self) -> bool:
        """Whether a run that has begun already will not do."""
        return self.refresh or self.buffer


class Begin(Struct, frozen=True, omit_defaults=True, kw_only=True, tag="begin", tag_field="op"):
    """A worker has a message in hand.

    Answers ``run`` (``ids`` as for `Ending`), ``free`` (run without a claim), ``follow``,
    ``joined`` (the same: another message that has not begun serves this one, too), ``wait`` (it is
    due in `rest`), ``reuse``, ``finished`` (a late copy) or ``dropped``.
    """

    task_id: str
    run: str
    #: 0 asks for a cached result only: there is no herd avoidance.
    lease: int
    herd: int
    gen: str = ""
    attempt: int = 0
    group: str = ""
    #: Never two at once, whatever their age, and nothing shared (``on_duplicate: serialize``).
    exclusive: bool = False
    #: The run is to hold nobody up, and only one that began after a call will do for it.
    starts: bool = False
    #: At most one start in this time.
    unique: int = 0
    gone: str = ""
    #: Only a run that began after the call will do (`refresh=True`).
    refresh: bool = False
    #: Store time of the call; only a run that ended later may serve it, a `refresh` one that began.
    since: int = 0
    #: A retry: the token of the run that sent it.
    after: str = ""
    bare: bool = False
    #: The broker says that it delivers this message again.
    redelivered: bool = False
    #: The message could not be sent, and its sender runs the task.  For so long it is dropped,
    #: should it arrive all the same.  Answers ``lost`` if it has arrived.
    give_up: int = 0
    #: What could not be sent held no claim.
    unclaimed: bool = False
    #: Its sender may give it up, and it holds no claim that would show its arrival: remember it.
    arrival: int = 0
    #: Set by a store that sees results: this id has no final one as yet.  It counts for a message
    #: that comes for the first time: another run that never ended may store its own.
    unmarked: bool = False
    #: It has been parked there, so that others may wait behind it.
    waited: str = ""
    #: It is not begun before it is due.
    heed: bool = False
    #: It is itself a call, of which nobody has told the store: as in `ClaimCall`.
    debounce: int = 0
    debounce_max: int = 0
    arguments: str = ""
    #: It is parked there.  Changes nothing but who is woken: answers ``follow`` if somebody will
    #: wake it, else ``lost``.
    parked: str = ""


class Finish(Struct, frozen=True, omit_defaults=True, kw_only=True, tag="finish", tag_field="op"):
    """A run ended and its outcome is in the result backend.

    Answers ``ok`` (``ids`` are those who wait for the same outcome under another id) or ``lost``.
    """

    task_id: str
    run: str
    gen: str
    fresh: int
    stale: int
    keep: int
    #: How long the message of a waiting refresh is believed to be on its way.
    hold: int
    failed: bool = False
    attempt: int = 0
    group: str = ""
    #: The run held no claim (no herd avoidance); record its result all the same.
    unclaimed: bool = False
    #: Runs take turns: what waits is woken one by one, and the claim is kept for it.
    line: bool = False


class Release(Struct, frozen=True, omit_defaults=True, kw_only=True, tag="release", tag_field="op"):
    """The owner lets go.  Answers ``ok`` or ``lost``.

    ``run`` is empty to release a queued claim or a waiting refresh, a run token to release that
    run, or a token with a final dot, of a worker or one of its processes, to release a run there.
    """

    task_id: str
    hold: int
    run: str = ""
    #: The message in hand is a retry: it lets go of the run that sent it as well, which may have
    #: yet to say so.
    after: str = ""
    gen: str = ""
    #: The message in hand is the copy that a takeover sent; nobody else frees what was taken over.
    bare: bool = False
    #: The id of the run gets no outcome of its own: whoever runs next serves those who wait for it.
    unserved: bool = False
    #: The run did what it wanted, without a result: for `unique_for` its start counts.
    silent: bool = False
    #: The message could not be sent.  For so long it is dropped, should it arrive all the same.
    #: Lets go only of what that very message claimed and no worker or other caller has taken up.
    give_up: int = 0
    #: It held no claim: only the message is given up.
    unclaimed: bool = False
    #: As for `Finish`.
    line: bool = False


class Ending(Struct, frozen=True, omit_defaults=True, kw_only=True, tag="ending", tag_field="op"):
    """The body is over: whoever calls from now on looks whether its outcome is known.

    Answers ``ok`` (``ids`` as for `Finish`) or ``lost``.
    """

    task_id: str
    run: str


class Lapse(Struct, frozen=True, omit_defaults=True, kw_only=True, tag="lapse", tag_field="op"):
    """What was taken over, or hastened, could not be published: the next caller shall try again.

    Answers ``ok`` or ``lost``.
    """

    task_id: str
    #: Of that call: nobody ends another's takeover.
    gen: str


class Requeue(Struct, frozen=True, omit_defaults=True, kw_only=True, tag="requeue", tag_field="op"):
    """A run will be retried.  Answers ``ok`` or ``lost``."""

    task_id: str
    run: str
    hold: int
    attempt: int


class Renew(Struct, frozen=True, omit_defaults=True, kw_only=True, tag="renew", tag_field="op"):
    """The run is alive.  ``run`` as in `Release`.

    Answers ``ok`` (``id`` is the run's own token) or ``lost``.
    """

    task_id: str
    run: str
    lease: int


class Forget(Struct, frozen=True, omit_defaults=True, kw_only=True, tag="forget", tag_field="op"):
    """Drop the claim and the result, whoever holds them.  ``ok``, or ``lost`` if there was none."""


Operation = ClaimCall | Begin | Ending | Finish | Release | Lapse | Requeue | Renew | Forget


#: What a store answers to a `ClaimCall`, to a `Begin`, and to the others.
ToCall = Literal[
    "claimed",
    "buffered",
    "takeover",
    "hastened",
    "joined",
    "ending",
    "unmarked",
    "started",
    "ended",
    "overdue",
    "cached",
    "stale",
    "refresh",
]
ToBegin = Literal[
    "run", "free", "wait", "follow", "joined", "reuse", "finished", "dropped", "unsure"
]
Word = ToCall | ToBegin | Literal["ok", "lost"]


#: Seconds by which a message that is put off comes later than it is due.
MARGIN = 0.005


class Answer(Struct, frozen=True):
    """What the store answers: a word, and the task id and generation that it is about."""

    word: Word
    id: str = ""
    gen: str = ""
    #: The store's time.
    at: int = 0
    ids: tuple[str, ...] = ()
    #: From a store that sees results.  To a caller: what is stored for the task `id`, bytes as the
    #: backend wrote them, empty while there is no final result.  To a run: empty if the end of its
    #: body need not be said.  None: nothing was seen; ask the backend.
    seen: bytes | None = None
    #: Where messages are parked that have to be woken now.
    waiting: str = ""
    #: ``follow``: in how long nobody waits for that run any more, unless it is renewed.  Of what
    #: waits until it is due: in how long that is.
    rest: int = 0
    #: ``run``: what the run is given instead of the arguments of its message; empty: those.
    arguments: str = ""
    #: ``run`` and ``takeover``: a run that never ended had the call, and its lease was over.
    left: bool = False

    @property
    def countdown(self) -> float:
        """Seconds for which what waits until it is due is put off: longer, lest it comes before."""
        return self.rest / 1000 + MARGIN


OK, LOST = Answer("ok"), Answer("lost")

#: What one operation comes to.
Step = tuple[Claim, Answer]
