"""What type checkers see of the methods that tasks gain; at run time, what there is anyway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from celery.app.task import Task

from . import methods

if TYPE_CHECKING:
    from celery.result import AsyncResult

    P = ParamSpec("P")
    R = TypeVar("R")
    T = TypeVar("T")

if TYPE_CHECKING:

    class JobtasticTask(Task[..., Any]):  # type: ignore[misc]
        """A task with what jobtastic_ext gives it, for annotations: ``self: JobtasticTask``.

        To have `app.task` return it as well, say `Celery("reports", task_cls=JobtasticTask)`, or
        `@app.task(base=JobtasticTask)`.  It is Celery's own `Task`: nothing depends on it.
        """

        def update_progress(
            self,
            completed_count: float,
            total_count: float | None,
            update_frequency: float = 1,
            *,
            message: str | None = None,
        ) -> None: ...

        def track(
            self,
            iterable: Iterable[T],
            total: float | None = None,
            update_frequency: int | None = None,
            *,
            message: str | None = None,
        ) -> Iterator[T]: ...

        def apply_async(
            self,
            args: tuple[Any, ...] | list[Any] | None = None,
            kwargs: dict[str, Any] | None = None,
            task_id: str | None = None,
            producer: Any = None,
            link: Any = None,
            link_error: Any = None,
            shadow: str | None = None,
            *,
            refresh: bool = False,
            **options: Any,
        ) -> AsyncResult[Any]: ...

        def delay_or_eager(self, *args: Any, **kwargs: Any) -> AsyncResult[Any]: ...
        def delay_or_fail(self, *args: Any, **kwargs: Any) -> AsyncResult[Any]: ...
        def async_or_eager(self, **options: Any) -> AsyncResult[Any]: ...
        def async_or_fail(self, **options: Any) -> AsyncResult[Any]: ...
        def forget(self, *args: Any, **kwargs: Any) -> bool: ...

    def delay_or_eager(task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Do what the task's method does; a checker knows the task's arguments."""

    def delay_or_fail(task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Do what the task's method does; a checker knows the task's arguments."""

else:
    JobtasticTask = Task
    delay_or_eager = methods.delay_or_eager
    delay_or_fail = methods.delay_or_fail
