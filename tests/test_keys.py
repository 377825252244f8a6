"""Call keys: one call, one key, however it is spelt and wherever it is computed."""

from __future__ import annotations

import functools
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtastic_ext.errors import ArgumentNotEncodable, ArgumentUnknown, ConfigurationError
from jobtastic_ext.keys.call_key import call_key
from jobtastic_ext.keys.signature import CallSignature

ROOT = Path(__file__).parents[1]


def key(run, *args, significant=None, prefix="jobtastic", cache_prefix="app.task", **kwargs) -> str:
    return call_key(prefix, cache_prefix, CallSignature(run), significant, args, kwargs)


def plain(a, b=2, *, c=3):
    pass


def with_args(a, *rest, c=3):
    pass


def with_kwargs(a, /, b=2, **options):
    pass


# Binding


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {}), ((1, 2), {}), ((), {"a": 1}), ((), {"c": 3, "b": 2, "a": 1}), ((1,), {"b": 2})],
)
def test_every_spelling_binds_alike_and_in_one_order(args: tuple, kwargs: dict) -> None:
    assert [*CallSignature(plain).bind(args, kwargs).items()] == [("a", 1), ("b", 2), ("c", 3)]


@pytest.mark.parametrize(
    ("args", "kwargs", "complaint"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"a": 1}, "multiple values for argument 'a'"),
        ((1,), {"d": 1}, "unexpected keyword argument 'd'"),
        ((), {"d": 1}, "missing a required argument: 'a'"),
    ],
)
def test_arguments_that_do_not_fit(args: tuple, kwargs: dict, complaint: str) -> None:
    with pytest.raises(TypeError, match=f"^plain: .*{complaint}"):
        CallSignature(plain).bind(args, kwargs)


PARAMETERS = [
    lambda: None,
    lambda a: None,
    lambda a, b=2: None,
    lambda a=1, *, b, c=3: None,
    lambda a, /, b=2: None,
    lambda *a, b=2: None,
    lambda a, *b, **c: None,
]


@given(
    st.sampled_from(PARAMETERS),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.sampled_from("abcd"), st.integers(), max_size=3),
)
def test_binding_agrees_with_inspect(run, args: list, kwargs: dict) -> None:
    signature = inspect.signature(run)
    try:
        expected = signature.bind(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            CallSignature(run).bind(args, kwargs)
        return
    expected.apply_defaults()
    bound = CallSignature(run).bind(args, kwargs)
    extra = {}
    for name, value in expected.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            extra = value
        else:
            assert bound.pop(name) == value
    assert sorted(bound.values()) == sorted(extra.values())


def test_extra_arguments_keep_their_names() -> None:
    assert CallSignature(with_args).bind((1, 2, 3), {}) == {"a": 1, "rest": (2, 3), "c": 3}
    signature = CallSignature(with_kwargs)
    assert [*signature.bind((1,), {"y": 5, "x": 4})] == ["a", "b", "x", "y"]


def test_an_extra_argument_is_never_taken_for_a_parameter() -> None:
    signature = CallSignature(with_kwargs)
    calls = [{}, {"a": 2}, {"**a": 2}, {"****a": 2}, {"options": 2}]
    assert signature.bind((1,), {"a": 2})["a"] == 1
    assert len({key(with_kwargs, 1, **call) for call in calls}) == len(calls)
    assert key(lambda *a, **o: None, a=()) != key(lambda *a, **o: None)


def test_names_and_what_can_never_be_known() -> None:
    signature = CallSignature(with_args)
    assert signature.names == ("a", "rest", "c")
    assert signature.refusal("rest") is None
    assert signature.refusal("other") == (
        "with_args takes no argument `other`; it takes `a`, `rest`, `c`"
    )
    assert CallSignature(with_kwargs).names == ("a", "b")
    assert CallSignature(with_kwargs).refusal("other") is None  # it may come by keyword
    refusal = CallSignature(lambda *args, **kwargs: None, name="t").refusal("owner")
    assert refusal is not None
    assert refusal.startswith("t takes `*args, **kwargs`, so `owner` is not known by name")


def test_methods_and_wrappers_show_their_own_arguments() -> None:
    class Task:
        def run(self, a, b=2):
            pass

    task = Task()

    @functools.wraps(task.run)
    def retrying(*args, **kwargs):
        return inner(*args, **kwargs)

    inner = task.run

    for run in (task.run, retrying, functools.partial(Task.run, task)):
        assert CallSignature(run).names == ("a", "b")


def test_a_callable_without_signature_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="wrap it in a Python function"):
        CallSignature(min)


# Keys


def test_the_shape_of_a_key() -> None:
    assert re.fullmatch(r"jobtastic:app\.task:[0-9a-f]{32}", key(plain, 1))


def test_spellings_agree() -> None:
    same = {key(plain, 1), key(plain, a=1), key(plain, 1, 2), key(plain, c=3, b=2, a=1)}
    assert len(same) == 1


def test_calls_differ() -> None:
    calls = [(1,), (2,), (1, 3), ("1",), (1.0,), (True,), (None,), ([1],), ([[1]],), (1, [2])]
    assert len({key(plain, *call) for call in calls}) == len(calls)


def test_arguments_do_not_run_together() -> None:
    assert key(plain, "ab", "c") != key(plain, "a", "bc")
    assert key(plain, "a", ["b"]) != key(plain, ["a"], "b")


def test_the_name_of_an_argument_counts() -> None:
    assert key(lambda a: None, 1) != key(lambda b: None, 1)


def test_only_significant_arguments_count() -> None:
    significant = [("a", None)]
    assert key(plain, 1, 2, significant=significant) == key(plain, 1, 9, significant=significant)
    assert key(plain, 1, significant=significant) != key(plain, 2, significant=significant)
    assert key(plain, object(), significant=[]) == key(plain, 1, significant=())


def test_every_argument_named_in_order_is_the_same_as_none_named() -> None:
    significant = [("a", None), ("b", None), ("c", None)]
    assert key(plain, 1, significant=significant) == key(plain, 1)


def test_an_argument_that_only_a_keyword_makes_known() -> None:
    significant = [("x", None)]
    keys = {key(with_kwargs, 1, x=x, significant=significant) for x in (None, [], "", 0)}
    assert len(keys) == 4
    for call in ({}, {"y": 1}):
        with pytest.raises(ArgumentUnknown, match="does not pass `x` by keyword"):
            key(with_kwargs, 2, significant=significant, **call)


def test_the_name_of_extra_arguments_stands_for_all_of_them() -> None:
    significant = [("a", None), ("options", None)]
    calls = [{}, {"x": 1}, {"x": 2}, {"y": 1}, {"options": 1}, {"a": 1}, {"options": {"x": 1}}]
    keys = {key(with_kwargs, 1, significant=significant, **call) for call in calls}
    assert len(keys) == len(calls)
    assert key(with_kwargs, 1, 2, x=1, significant=significant) in keys


def test_a_default_without_an_encoding_is_told_from_whatever_is_given() -> None:
    missing, lazy_text = object(), iter(())

    def run(a, session=missing, lazy=lazy_text):
        pass

    assert key(run, 1) == key(run, a=1)
    assert key(run, 1) == key(run, 1, significant=[("a", None), ("session", str), ("lazy", None)])
    assert len({key(run, 1), key(run, 1, None), key(run, 1, []), key(run, 2)}) == 4
    with pytest.raises(ArgumentNotEncodable):
        key(run, 1, object())


def test_what_counts_beside_the_arguments() -> None:
    keys = {call_key("p", "t", CallSignature(plain), None, (1,), {}, vary) for vary in VARYING}
    assert len(keys) == len(VARYING)
    assert key(plain, 1, prefix="p", cache_prefix="t") in keys


VARYING: list = [None, [{"a": 1}, []], [{}, ["", "a"]], [{"a": 1}, ["", "a"]], [{"a": "1"}, []]]


def test_a_converter_stands_for_the_argument() -> None:
    significant = [("a", str)]
    assert key(plain, 1, significant=significant) == key(plain, "1", significant=significant)
    assert key(plain, 1, significant=significant) == key(plain, "1", significant=[("a", None)])
    assert key(plain, "1", significant=[("a", repr)]) != key(plain, "1", significant=significant)
    assert key(plain, -1, significant=[("a", abs)]) == key(plain, 1, significant=[("a", None)])


def test_odd_names_of_arguments() -> None:
    names = ["é", "\udc80", "\udc81", "a b", "a", ""]
    assert len({key(with_kwargs, 1, **{name: 1}) for name in names}) == len(names)
    assert key(with_kwargs, 1, é=1, significant=[("é", None)])


class Thing:
    pass


@pytest.mark.parametrize("converter", [str, repr])
@pytest.mark.parametrize(
    "value", [Thing(), [Thing()], {"a": (Thing(),)}, lambda: None, Thing().__init__]
)
def test_an_address_in_memory_is_no_key(converter, value: object) -> None:
    name = converter.__name__
    with pytest.raises(ArgumentNotEncodable, match=rf"plain: {name} of argument a \(of type "):
        key(plain, value, significant=[("a", converter)])


def test_text_about_an_address_is_text() -> None:
    assert key(plain, "<Thing object at 0x7f00>", significant=[("a", str)])
    assert key(plain, ["look at 0x7f00"], significant=[("a", str)])


def failing(value: object) -> object:
    raise LookupError(value)


def test_a_converter_that_raises() -> None:
    with pytest.raises(
        ArgumentNotEncodable,
        match=r"^plain: the converter \S*test_keys:failing of argument a raised LookupError for",
    ) as caught:
        key(plain, 1, significant=[("a", failing)])
    assert isinstance(caught.value.__cause__, LookupError)


def test_text_that_will_not_be_read_is_still_text() -> None:
    class Sly(str):
        def __str__(self) -> str:
            raise ValueError

    class Thing:
        def __str__(self) -> str:
            return Sly("a")

    significant = [("a", str)]
    assert key(plain, Thing(), significant=significant) == key(plain, "a", significant=significant)


def test_a_converter_whose_result_is_refused() -> None:
    with pytest.raises(ArgumentNotEncodable, match=r"argument \S*<lambda>\(a\)\[1\] \(of type"):
        key(plain, 1, significant=[("a", lambda a: [a, Thing()])])


def test_a_refusal_names_task_and_argument() -> None:
    signature = CallSignature(plain, name="reports.divide")
    with pytest.raises(ArgumentNotEncodable, match=r"^reports\.divide: argument b\[0\] \(of type"):
        call_key("p", "c", signature, None, (1, [Thing()]), {})


@given(st.text(max_size=150), st.text(max_size=150))
def test_a_key_is_safe_and_bounded(prefix: str, cache_prefix: str) -> None:
    text = key(plain, 1, prefix=prefix, cache_prefix=cache_prefix)
    assert re.fullmatch(r"[A-Za-z0-9_.:/%~-]{1,194}", text)


PREFIXES = ["a", "a b", "a%20b", "a\n", "a:b", "é", "\udce9", "a~b", "{a}", "x" * 100, "x" * 101]


def test_different_prefixes_stay_different() -> None:
    keys = {key(plain, 1, cache_prefix=prefix) for prefix in [*PREFIXES, "x" * 102, "x" * 999]}
    assert len(keys) == len(PREFIXES) + 2
    assert key(plain, 1, prefix="a", cache_prefix="b:c") != key(
        plain, 1, prefix="a:b", cache_prefix="c"
    )
    folded = key(plain, 1, cache_prefix="x" * 101).split(":")[1]
    assert len(folded) == 100
    assert key(plain, 1, cache_prefix=folded).split(":")[1] != folded


# The same in every process, and for ever

#: Run by other interpreters, which need msgspec but not Celery.
SCRIPT = """
import dataclasses, datetime as dt, decimal, enum, fractions, ipaddress, math, pathlib, sys
import types, uuid
package = types.ModuleType("jobtastic_ext")
package.__path__ = [sys.argv[1]]
sys.modules["jobtastic_ext"] = package
from jobtastic_ext.keys.call_key import CallSignature, call_key
assert "celery" not in sys.modules

class Colour(enum.Enum):
    RED = 1
class Access(enum.Flag):
    READ = 1
    WRITE = 2
class Mode(enum.IntFlag):
    READ = 1
    WRITE = 2
class Word(str, enum.Enum):
    A = "a"
@dataclasses.dataclass
class Point:
    x: int
    y: int
for cls in (Colour, Access, Point):
    cls.__module__ = "corpus"

words = {f"word{n}" for n in range(50)}
corpus = {
    "none": None, "true": True, "one": 1, "big": 2**70, "negative": -(2**70),
    "float": 0.1, "nan": math.nan, "inf": math.inf, "complex": 1 - 2j,
    "text": "a", "unicode": "\\u00e9\\U0001f600", "surrogate": "\\udc80", "bytes": b"\\xff",
    "list": [1, "a", None], "ints": list(range(20)), "texts": sorted(words),
    "floats": [n / 7 for n in range(20)], "mixed": [1, 1.0, True, "1"] * 5,
    "dict": {word: len(word) for word in words}, "keys": {1: 1, "1": 2, None: 3, (1, 2): 4},
    "set": words, "sets": {frozenset(words), frozenset()}, "range": range(1, 9, 2),
    "datetime": dt.datetime(2024, 2, 3, 4, 5, 6, 7),
    "aware": dt.datetime(2024, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=-5, minutes=-30))),
    "date": dt.date(2024, 2, 3), "time": dt.time(4, 5, 6), "timedelta": dt.timedelta(-1, 2, 3),
    "decimal": decimal.Decimal("-1.50E+40"), "fraction": fractions.Fraction(-1, 3),
    "uuid": uuid.UUID(int=5), "enum": Colour.RED, "flag": Access.READ | Access.WRITE,
    "intflag": Mode.READ | Mode.WRITE, "word": Word.A, "path": pathlib.PurePosixPath("/a/b"),
    "windows": pathlib.PureWindowsPath("C:/a"), "mapped": ipaddress.ip_address("::ffff:1.2.3.4"),
    "scoped": ipaddress.ip_address("fe80::1%eth0"), "network": ipaddress.ip_network("10.0.0.0/8"),
    "interface": ipaddress.ip_interface("10.0.0.1/8"), "dataclass": Point(1, 2),
}
signature = CallSignature(lambda value, other=1: None)
for name, value in corpus.items():
    print(name, call_key("p", "c", signature, None, (value,), {})[4:])
"""

# If one of these changes, every cache in production goes cold: say so in the changelog.
PINNED = {
    "none": "23710ece31dac23cbc9e290c47c55f9b",
    "true": "6f1089697c795cb710e5dbbfe0213eb8",
    "one": "264bc6015eb1c6134bb6a62047d5b9ec",
    "big": "06e58b75c1b43b797bbf73ce9c523e2b",
    "negative": "9cd0cfee7d684247f72fb143cfc32132",
    "float": "12508974a303aae32fdb7c9d29eb9c3b",
    "nan": "c7b2624d3f5842bbf96b583c5243817e",
    "inf": "026b2080db6b638d1558e271035397f9",
    "complex": "912e1f554ad76395ddd2a8244e12fd1f",
    "text": "9c06325d188564f1833ef78bcb77185a",
    "unicode": "b9258246397a7f2fce028a0f612c5930",
    "surrogate": "df2162d5b82a6da3730c536e1a3ade1f",
    "bytes": "d26a0ec06275d12f500ea18d7d26aff7",
    "list": "59dae3ca3cbbfe7722526b1910cd9eea",
    "ints": "c5fdc8810313a1cf734e7e7d4a87d025",
    "texts": "6833cabda0c439b6e1b89e8775b7d9a3",
    "floats": "4d824e77278dccea2dfe43fac31b1f99",
    "mixed": "87560612b5b9d4e7324d90e3f64491bd",
    "dict": "a5a39510d2c1c52e13c1e60f6a0b1893",
    "keys": "6d2ba3ccbb65d2e03f3e9a34aac82b5e",
    "set": "c3c75890700d49800dc5b07ab3231ccc",
    "sets": "9c539bedcf680c1825700f521ed544ec",
    "range": "5705a7cfacb727cde3bdfc5dc70a7dfa",
    "datetime": "4e3601fd62905b3c2485458be3f39b51",
    "aware": "664c4852c49949ce5940fdbd42ff8838",
    "date": "52865f3b91df571850b9e5125d0b3f0e",
    "time": "93dbd2302880fcb6822835ba53172d7d",
    "timedelta": "342e73d9c5fb41f8bde764c88933dce7",
    "decimal": "5de100a5a506e2dd8e61c0238763fade",
    "fraction": "eeb24ef901b7762f8b09611cc84b8414",
    "uuid": "4526af6dbb56d1bcea45dafca1e215ae",
    "enum": "28d7d57b7414437a6a38ffac6f229d23",
    "flag": "dc40958800ad487a70f267b61e884622",
    "intflag": "1f23f84d6020b33db2b715a71c0b0e26",
    "word": "9c06325d188564f1833ef78bcb77185a",
    "path": "0716ffba9d8f9472d69946ae662ea787",
    "windows": "2079932f6d54e0efaf43e5a627e6c9b5",
    "mapped": "1cb2016bfb5ea08e060fb5ed8a930eb8",
    "scoped": "04b9db475bb55236dcf842c7a340b029",
    "network": "3e71577e852884b991b1aa88eee8aab2",
    "interface": "79af35e258419ace2ed69333d7c66cd9",
    "dataclass": "11968828e5c25693042e5760843e0805",
}


def keys_of(python: str, seed: str) -> dict[str, str]:
    done = subprocess.run(
        [python, "-c", SCRIPT, str(ROOT / "jobtastic_ext")],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(line.split() for line in done.stdout.splitlines())


def test_no_two_keys_of_the_corpus_agree() -> None:
    # 3 and "a" are meant to agree with an IntFlag and a str Enum, but only "a" is in the corpus.
    assert PINNED["word"] == PINNED["text"]
    assert len(set(PINNED.values())) == len(PINNED) - 1


@pytest.mark.parametrize("seed", ["0", "1", "12345"])
def test_keys_are_the_same_in_every_process_and_release(seed: str) -> None:
    assert keys_of(sys.executable, seed) == PINNED


def other_python(version: str) -> str | None:
    """Find an interpreter of this version that has msgspec."""
    named = os.environ.get("JOBTASTIC_TEST_PYTHONS", "").split(os.pathsep)
    pyenv = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    check = f"import msgspec, sys; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
    for python in [sys.executable, *filter(None, named), *map(str, pyenv), f"python{version}"]:
        try:
            if not subprocess.run([python, "-c", check], capture_output=True).returncode:
                return python
        except OSError:
            continue
    return None


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_keys_are_the_same_in_every_python(version: str) -> None:
    python = other_python(version)
    if python is None:
        pytest.skip(
            "set JOBTASTIC_TEST_PYTHONS to Pythons 3.10 to 3.13 that have msgspec "
            f"(paths joined by {os.pathsep!r})"
        )
    assert keys_of(python, "7") == PINNED
