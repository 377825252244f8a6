"""Which wrapper hands on exactly what it is given, so that the names behind it can be trusted.

Read from the wrapper's source.  Whatever is not understood counts as a wrapper that may pass
arguments of its own: sharing is refused rather than guessed.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from collections.abc import Callable, Iterator
from functools import lru_cache
from tokenize import TokenError
from types import CodeType, FunctionType, MethodType
from typing import Any

#: Packages whose wrappers are known to pass on what they get, though their source shows it less
#: plainly: Celery's own (`autoretry_for`, `pydantic=True`), ours, and what watches a task.
KNOWN = (
    "celery",
    "jobtastic_ext",
    "backoff",
    "contextlib",
    "ddtrace",
    "elasticapm",
    "newrelic",
    "opentelemetry",
    "sentry_sdk",
    "tenacity",
)

#: Functions and methods that read the keyword arguments and change nothing: of logging, mostly.
READS = frozenset(
    (
        *("repr", "str", "len", "sorted", "print"),
        *("log", "debug", "info", "warning", "error", "exception", "critical"),
    )
)


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return what a wrapper passes its arguments on to, unchanged; None if that is not certain."""
    inner: Any = getattr(function, "__wrapped__", None)
    if inner is None or declares(function, inner):
        return None
    return inner if is_known(function) or passes_on(function, inner) else None


def is_plain_call(call: Callable[..., Any]) -> bool:
    """Whether a task's own `__call__` certainly hands the body what it is given."""
    return declares(call, None) or is_known(call) or passes_on(call)


def is_known(function: Any) -> bool:
    if type(function) is FunctionType:
        maker = function.__globals__.get("__name__")
    else:  # an object such as wrapt makes, which passes for the function that it wraps
        maker = getattr(getattr(function, "_self_wrapper", None), "__module__", None)
    return str(maker).partition(".")[0] in KNOWN


def declares(function: Callable[..., Any], inner: Any) -> bool:
    """Whether the wrapper says itself what it takes.

    `functools.wraps` copies what `inner` says.
    """
    said = getattr(function, "__dict__", {}).get("__signature__")
    return said is not None and said is not getattr(inner, "__dict__", {}).get("__signature__")


def is_open(signature: inspect.Signature) -> bool:
    """Whether it takes anything: ``(*args, **kwargs)``, as a wrapper does."""
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    return kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]


def passes_on(function: Any, inner: Any = None) -> bool:
    """Whether `function` calls `inner`, wherever it does, with just what it was called with.

    Without `inner`, whether all that it passes on is just that.
    """
    if type(function) is not FunctionType:
        return False
    linecache.lazycache(function.__code__.co_filename, function.__globals__)
    found = definition(function.__code__)
    if found is None or found.args.vararg is None or found.args.kwarg is None:
        return False
    if found.args.kwonlyargs or found.args.defaults:
        return False
    first = [argument.arg for argument in (*found.args.posonlyargs, *found.args.args)]
    names = {*first, found.args.vararg.arg, found.args.kwarg.arg}
    if inner is None:
        first = first[1:]  # `self`
    targets = names_of(function, inner) if inner is not None else set()
    if targets & names or (inner is not None and not targets):
        return False
    return is_faithful(found, first, targets)


@lru_cache(maxsize=64)
def definition(code: CodeType) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    # Of the code itself: the source of a function is that of what it wraps.  `inspect.getsource`
    # would look through all modules for the one that it is of.
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    try:
        tree = ast.parse(textwrap.dedent("".join(inspect.getblock(lines))))
    except (SyntaxError, ValueError, TokenError):
        return None
    only = tree.body[0] if len(tree.body) == 1 else None
    return only if isinstance(only, ast.FunctionDef | ast.AsyncFunctionDef) else None


def names_of(function: FunctionType, inner: Any) -> set[str]:
    """Return the names by which a closure knows the function that it wraps."""
    found = set()
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        if content is inner or (isinstance(content, MethodType) and content == inner):
            found.add(name)
    return found


def is_faithful(
    found: ast.FunctionDef | ast.AsyncFunctionDef, first: list[str], targets: set[str]
) -> bool:
    assert found.args.vararg is not None
    assert found.args.kwarg is not None
    rest, keywords = found.args.vararg.arg, found.args.kwarg.arg
    body = [node for statement in found.body for node in ast.walk(statement)]
    calls = [
        node for node in body if isinstance(node, ast.Call) and is_same(node, first, rest, keywords)
    ]
    exact = {id(call.func) for call in calls}
    harmless = {id(name) for node in body for name in harmless_names(node, calls)}
    own = {*first, rest, keywords, *targets}
    for node in body:
        if own & set(bound_names(node)):
            return False
        if not isinstance(node, ast.Name) or node.id not in own:
            continue
        if not isinstance(node.ctx, ast.Load):
            return False
        if node.id in targets and id(node) not in exact:
            return False
        if node.id == keywords and id(node) not in harmless:
            return False
    called = [c for c in calls if not targets or getattr(c.func, "id", None) in targets]
    return bool(called)


def is_same(call: ast.Call, first: list[str], rest: str, keywords: str) -> bool:
    """Whether it is ``f(first, *rest, **keywords)``."""
    given = [
        f"*{argument.value.id}"
        if isinstance(argument, ast.Starred) and isinstance(argument.value, ast.Name)
        else getattr(argument, "id", "")
        for argument in call.args
    ]
    named = [(word.arg, getattr(word.value, "id", "")) for word in call.keywords]
    return given == [*first, f"*{rest}"] and named == [(None, keywords)]


def harmless_names(node: ast.AST, calls: list[ast.Call]) -> Iterator[ast.expr]:
    """Yield what only reads, or copies, the keyword arguments."""
    if isinstance(node, ast.FormattedValue):
        yield node.value
    elif isinstance(node, ast.Call):
        if node in calls:
            yield node.keywords[0].value
        elif getattr(node.func, "attr", getattr(node.func, "id", "")) in READS:
            yield from node.args


def bound_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node binds without an `ast.Name`, in whatever scope."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Global | ast.Nonlocal):
        yield from node.names
    elif isinstance(node, ast.alias):
        yield node.asname or node.name
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        yield node.name or ""
    elif isinstance(node, ast.MatchMapping):
        yield node.rest or ""
