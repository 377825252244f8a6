"""A run that holds the claim of its call."""

from __future__ import annotations

import logging
from math import inf

from ..errors import ResultsUnavailable, StoreError
from .line import Line, wake
from .protocol import Results
from .records import FOREVER, Answer, Begin, Ending, Finish, Operation, Release, Requeue, Terms
from .store import Store

logger = logging.getLogger("jobtastic_ext")


class Run:
    """One run in progress, kept on the request of its task."""

    #: It was retried with other arguments: its outcome belongs to another call.
    departed = False
    #: The place that its call named; see `Routes`.
    place: tuple[str, ...] = ()
    #: Its body has returned or raised.
    over = False

    def __init__(
        self,
        store: Store,
        results: Results,
        line: Line,
        terms: Terms,
        key: str,
        begun: Begin,
        answer: Answer,
    ) -> None:
        self.store, self.results, self.line, self.terms = store, results, line, terms
        self.key, self.begun, self.gen = key, begun, answer.gen
        self.unclaimed = answer.word == "free"
        #: The store did not answer when it began: the claim may be another's, or wait for it yet.
        self.unsure = answer.word == "unsure"
        #: The store sees its result, so that nobody need be told when the body is over.
        self.unmarked = answer.seen is not None
        #: Ids that wait for the outcome of this run, as far as it knows.
        self.orphans = answer.ids

    def end(self, failed: bool) -> None:
        """The body is over: who calls from now on looks whether the outcome is known."""
        self.over = True
        terms = self.terms
        # Nobody joins a run that holds nobody up, unless the store knows it as queued yet.
        joined = not terms.starts or terms.unique or self.unsure
        unseen = terms.exclusive or terms.blind or not joined
        looks = not (unseen or self.unclaimed)
        if looks and (failed or not self.unmarked):
            answer = self._apply(Ending(task_id=self.begun.task_id, run=self.begun.run))
            if answer is not None and answer.word != "lost":
                self.orphans = answer.ids  # of a run that was forgotten nobody else knows them

    def finish(self, failed: bool) -> None:
        """The outcome is stored: share it as long as the policy says, and let go."""
        terms, begun = self.terms, self.begun
        share = not terms.exclusive
        self.pass_on(self.orphans)  # before the claim forgets them
        answer = self._apply(
            Finish(
                task_id=begun.task_id,
                run=begun.run,
                gen=self.gen,
                fresh=(terms.failure_fresh if failed else terms.fresh) if share else 0,
                stale=terms.stale if share and not failed else 0,
                keep=terms.keep,
                hold=terms.hold,
                failed=failed,
                attempt=begun.attempt,
                group=begun.group,
                unclaimed=self.unclaimed,
                line=terms.exclusive,
            )
        )
        if answer is not None:
            self.pass_on(tuple(one for one in answer.ids if one not in self.orphans))
            wake(self.store, self.line, terms, self.key, answer.waiting)

    def pass_on(self, ids: tuple[str, ...]) -> None:
        """Give those who lost the claim to this run its outcome."""
        if not ids or self.terms.blind:
            return
        try:
            self.results.pass_on(self.begun.task_id, ids)
        except ResultsUnavailable as error:  # this task has its result
            logger.warning("%s: no result for %s: %s", self.key, ids, error)

    def requeue(self, wait: float) -> None:
        """The run will be retried in `wait` seconds: the claim waits with it."""
        hold = self.terms.hold + round(max(wait, 0) * 1000)
        begun = self.begun
        self._apply(
            Requeue(task_id=begun.task_id, run=begun.run, hold=hold, attempt=begun.attempt + 1)
        )

    def release(self, unserved: bool = False, silent: bool = False) -> None:
        """Nothing came of it: the next identical call runs, and serves those who are `unserved`.

        One that was `silent` did what it wanted: to `unique_for` it is a start as any other.
        """
        begun, terms = self.begun, self.terms
        answer = self._apply(
            Release(
                task_id=begun.task_id,
                run=begun.run,
                hold=terms.hold,
                unserved=unserved,
                silent=silent,
                line=terms.exclusive,
            )
        )
        if answer is not None:
            wake(self.store, self.line, terms, self.key, answer.waiting)

    def _apply(self, operation: Operation) -> Answer | None:
        if self.unclaimed and not isinstance(operation, Finish):
            return None
        try:
            answer = self.store.apply(self.key, operation)
        except StoreError as error:
            # The lease ends by itself, and the next identical call runs.
            logger.debug("%s: %s not recorded: %s", self.key, type(operation).__name__, error)
            return None
        if answer.word == "lost" and self.unsure:
            if not isinstance(operation, Requeue):
                self._release_queued()
        elif answer.word == "lost" and not isinstance(operation, Ending):
            logger.info(
                "%s ended after it had lost its claim; the claim is left alone (key %s)",
                self.begun.task_id,
                self.key,
            )
        return answer

    def _release_queued(self) -> None:
        """Nobody shall join the message of this run: it has run."""
        begun = self.begun
        release_message(
            self.store,
            self.line,
            self.terms,
            self.key,
            begun.task_id,
            after=begun.after,
            bare=begun.bare,
        )


def keep_result(run: Run) -> None:
    """Let the stored result live as long as it is cached."""
    terms = run.terms
    if not (terms.fresh or terms.unique) or terms.blind:
        return
    lifetime = max(terms.fresh + terms.stale, terms.unique)
    try:
        run.results.keep(run.begun.task_id, inf if lifetime >= FOREVER else lifetime / 1000)
    except ResultsUnavailable as error:  # it lives as long as the backend lets it
        logger.warning("%s: %s", run.key, error)


def release_message(
    store: Store,
    line: Line,
    terms: Terms,
    key: str,
    task_id: str,
    *,
    run: str = "",
    after: str = "",
    bare: bool,
) -> None:
    """Let go of the queued claim of a message, or of its `run`; wake those that wait for it."""
    release = Release(
        task_id=task_id, hold=terms.hold, run=run, after=after, bare=bare, line=terms.exclusive
    )
    try:
        answer = store.apply(key, release)
    except StoreError as error:
        logger.debug("%s: not released, which ends by itself: %s", key, error)
        return
    wake(store, line, terms, key, answer.waiting)
