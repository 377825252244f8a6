"""The canonical encoding: equal where meant, different everywhere else, and never a crash."""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import math
import sys
import types
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from enum import Enum, Flag, IntEnum, IntFlag
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path, PurePosixPath, PureWindowsPath
from unittest.mock import MagicMock, Mock
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobtastic_ext.errors import ArgumentNotEncodable
from jobtastic_ext.keys import encoding
from jobtastic_ext.keys.encoding import ABSENT, MAX_DEPTH, canonical, pack
from tests.thorough import examples


def encode(value: object, name: str = "value") -> bytes:
    """Return the bytes that stand for one value in a call's key."""
    return pack(canonical(value, name))


class Number(IntEnum):
    ZERO = 0
    ONE = 1


class Word(str, Enum):
    A = "a"
    ONE = "1"


class Renamed(int, Enum):
    """Its ``_value_`` is not the int that it is, which is what JSON sends."""

    def __new__(cls, number: int) -> Renamed:
        member = int.__new__(cls, number)
        member._value_ = "renamed"
        return member

    def __repr__(self) -> str:
        return "Renamed.TEN"

    TEN = 10


class RenamedWord(str, Enum):
    def __new__(cls, word: str) -> RenamedWord:
        member = str.__new__(cls, word)
        member._value_ = "renamed"
        return member

    TEN = "ten"


class Colour(Enum):
    RED = 1
    BLUE = "a"


class Shade(Enum):
    RED = 1


class Access(Flag):
    READ = 1
    WRITE = 2


class Mode(IntFlag):
    READ = 1
    WRITE = 2


class Text(str):
    pass


class Whole(int):
    pass


class Real(float):
    pass


class Items(list):
    pass


class Table(dict):
    pass


Pair = collections.namedtuple("Pair", "left right")


@dataclasses.dataclass(frozen=True)
class Point:
    x: object
    y: object = 0


@dataclasses.dataclass(frozen=True)
class Vector:
    x: object
    y: object = 0


class Record(msgspec.Struct, frozen=True):
    x: object
    y: object = 0


class Speaks:
    def __init__(self, answer: object) -> None:
        self.answer = answer

    def __json__(self) -> object:
        return self.answer


# An oracle of its own: which values are meant to share an encoding


def kind_of(value: object) -> str:
    families = [
        ("bool", bool),
        ("str", str),
        ("int", int),
        ("float", float),
        ("sequence", (list, tuple)),
        ("mapping", collections.abc.Mapping),
        ("set", (set, frozenset)),
        ("bytes", (bytes, bytearray, memoryview)),
        ("datetime", datetime),
    ]
    return next((name for name, base in families if isinstance(value, base)), repr(type(value)))


def same_float(a: float, b: float) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b and math.copysign(1, a) == math.copysign(1, b)


def same_bag(a: list[object], b: list[object]) -> bool:
    rest = list(b)
    for item in a:
        found = next((i for i, other in enumerate(rest) if same(item, other)), None)
        if found is None:
            return False
        del rest[found]
    return not rest


def same(a, b) -> bool:
    if isinstance(a, Speaks) or isinstance(b, Speaks):
        return same(getattr(a, "answer", a), getattr(b, "answer", b))
    kind = kind_of(a)
    if kind != kind_of(b):
        return False
    if kind == "str":
        return [*map(ord, a)] == [*map(ord, b)]
    if kind == "int":
        return int.__sub__(a, b) == 0
    if kind == "float":
        return same_float(a, b)
    if kind == "sequence":
        return len(a) == len(b) and all(map(same, a, b))
    if kind == "mapping":
        return same_bag([*a.items()], [*b.items()])
    if kind == "set":
        return same_bag([*a], [*b])
    if kind == "bytes":
        return bytes(a) == bytes(b)
    if kind == "datetime":
        naive = (a.replace(tzinfo=None), b.replace(tzinfo=None))
        return a.utcoffset() == b.utcoffset() and naive[0] == naive[1]
    if isinstance(a, complex):
        return same_float(a.real, b.real) and same_float(a.imag, b.imag)
    if isinstance(a, Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, (Point, Vector, Record)):
        return same(a.x, b.x) and same(a.y, b.y)
    return a == b


def utc(hours: int) -> timezone:
    return timezone(timedelta(hours=hours))


# Few values that look alike, so that pairs often meet, beside anything at all
LOOKALIKES = [
    *(None, True, False, 0, 1, -1, 0.0, -0.0, 1.0, math.nan, -math.nan, math.inf, 1j, 1 + 0j),
    *(2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, f"{2**64:x}", 2**400, -(2**400)),
    *("", "a", "1", "None", "ab", "é", "e\u0301", "\udc80", "\ud83d\ude00", "😀", "\0"),
    *(b"", b"a", b"1", bytearray(b"a"), memoryview(b"a")),
    *(Number.ONE, Number.ZERO, Word.A, Word.ONE, Colour.RED, Colour.BLUE, Shade.RED),
    *(Renamed.TEN, 10, "renamed", RenamedWord.TEN, "ten", Text("a"), Whole(1), Real(1.0)),
    *(Access.READ, Access.READ | Access.WRITE, Mode.READ, Mode.READ | Mode.WRITE, 3),
    *(date(2024, 1, 2), datetime(2024, 1, 2), datetime(2024, 1, 2, fold=1), "2024-01-02"),
    *(datetime(2024, 1, 2, 1, tzinfo=utc(1)), datetime(2024, 1, 2, tzinfo=utc(0))),
    *(time(1), time(1, tzinfo=utc(0)), timedelta(1), timedelta(seconds=1)),
    *(Decimal(1), Decimal("1.0"), Decimal("1E+30"), Decimal("nan"), Fraction(1), Fraction(1, 2)),
    *(UUID(int=0), str(UUID(int=0)), range(0), range(1, 1), range(0, 3, 2), range(0, 4, 2)),
    *(PurePosixPath("a"), PureWindowsPath("a"), PurePosixPath("1")),
    *(ip_address("::ffff:1.2.3.4"), ip_address("1.2.3.4"), ip_network("1.2.3.4/32")),
    *(ip_interface("1.2.3.4/32"), ip_interface("1.2.3.4/24"), "1.2.3.4"),
    *([], (), {}, set(), frozenset(), [1], (1,), {1}, {"a": 1}, {1: "a"}, {"1": 1}, {1: 1}),
    *([["a"]], [["a", 1]], ["a", 1], Pair("a", 1), Items([1]), Table(a=1), {Text("a"): 1}),
    *(collections.OrderedDict(a=1), types.MappingProxyType({"a": 1}), collections.UserDict(a=1)),
    *({Word.A: 1}, {Colour.RED: 1}, {None: 1}, {(1, 2): 1}, {"\udc80": 1}, {b"\xc2\x80": 1}),
    *(Point(1), Point(1.0), Vector(1), Record(1), {"x": 1, "y": 0}, Speaks("a"), Speaks([1])),
]

scalars = st.one_of(
    st.sampled_from(LOOKALIKES),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec=None), max_size=4),
    st.binary(max_size=4),
    st.datetimes(timezones=st.none() | st.sampled_from([utc(0), utc(5)])),
    st.decimals(),
    st.timedeltas(),
)


def hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


keys = st.sampled_from([v for v in LOOKALIKES if hashable(v)]) | st.text(max_size=3)

values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(keys, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(Record, inner),
        st.builds(Speaks, inner),
    ),
    max_leaves=8,
)

# Long enough to be packed as a whole, if nothing odd is among them
odd = st.sampled_from(LOOKALIKES)
long_lists = st.one_of(
    st.tuples(st.lists(usual, min_size=10, max_size=12), st.lists(odd, max_size=1)).map(
        lambda parts: parts[0][:5] + parts[1] + parts[0][5:]
    )
    for usual in (
        st.integers(-3, 2**64 + 3) | st.sampled_from([0, 1, Number.ONE, Renamed.TEN]),
        st.sampled_from(["a", "1", "é", Word.A, RenamedWord.TEN, Text("a")]),
        st.sampled_from([0.0, 1.0, -0.0, math.inf, -math.inf, 0.1]),
    )
)


def respelt(value: object, draw) -> object:
    """Build the same value in another way."""
    if type(value) in (list, tuple):
        return draw(st.sampled_from([list, tuple, Items]))(respelt(v, draw) for v in value)
    if type(value) is dict:
        items = draw(st.permutations([*value.items()]))
        return draw(st.sampled_from([dict, Table, collections.OrderedDict]))(
            (key, respelt(item, draw)) for key, item in items
        )
    if type(value) in (set, frozenset):
        return draw(st.sampled_from([set, frozenset]))(draw(st.permutations([*value])))
    if type(value) is Point:
        return Point(y=respelt(value.y, draw), x=respelt(value.x, draw))
    spellings = {int: [int, Whole, Speaks], str: [str, Text, Speaks], float: [float, Real]}
    if type(value) is bytes:
        spellings = {bytes: [bytes, bytearray, memoryview]}
    return draw(st.sampled_from(spellings.get(type(value), [lambda v: v])))(value)


@settings(max_examples=examples(200))
@given(values, values)
def test_two_values_share_an_encoding_exactly_if_they_are_meant_to(a: object, b: object) -> None:
    assert (encode(a) == encode(b)) == same(a, b)


@settings(max_examples=examples(200))
@given(st.data())
def test_another_spelling_of_a_value_has_the_same_encoding(data: st.DataObject) -> None:
    value = data.draw(values | long_lists)
    other = respelt(value, data.draw)
    assert same(value, other)
    assert encode(value) == encode(other)


@settings(max_examples=examples(200))
@given(long_lists, long_lists)
def test_long_lists_share_an_encoding_exactly_if_they_are_meant_to(a: list, b: list) -> None:
    assert (encode(a) == encode(b)) == same(a, b)
    b = [*b[:5], *a[5:]]
    assert (encode(a) == encode(b)) == same(a, b)


@settings(max_examples=examples(200))
@given(long_lists | values)
def test_packing_a_list_as_a_whole_gives_the_bytes_of_the_loop(value: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_WHOLE", math.inf)
        by_loop = encode(value)
    assert encode(value) == by_loop


def test_every_pair_of_lookalikes() -> None:
    for a in LOOKALIKES:
        for b in LOOKALIKES:
            assert (encode(a) == encode(b)) == same(a, b), (a, b)
            assert (encode([a] * 9) == encode([b] * 9)) == same(a, b), (a, b)
            assert (encode({"k": a}) == encode({"k": b})) == same(a, b), (a, b)


def test_any_odd_item_in_a_list_gives_the_bytes_of_the_loop(monkeypatch) -> None:
    usual = ([*range(9)], [*"abcdefghi"], [n / 7 for n in range(9)])
    lists = [[*items, odd] for items in usual for odd in LOOKALIKES]
    as_usual = [*map(encode, lists)]
    monkeypatch.setattr(encoding, "_WHOLE", math.inf)
    assert as_usual == [*map(encode, lists)]


@pytest.mark.parametrize("items", [[*range(9)], [*"abcdefghi"], [n / 7 for n in range(9)]])
def test_ordinary_lists_take_the_fast_path(items: list) -> None:
    assert type(encoding._whole(items)) is msgspec.Raw


@pytest.mark.parametrize(
    ("items", "odd"),
    [
        (items, odd)
        for items in ([*range(9)], [*"abcdefghi"], [n / 7 for n in range(9)])
        for odd in (True, None, Decimal(1), UUID(int=1), date(2024, 1, 1), {1}, b"a", Colour.RED)
    ],
)
def test_an_odd_item_leaves_the_fast_path(items: list, odd: object) -> None:
    """What msgspec would pack as something else must never pass as a whole."""
    assert encoding._whole([*items, odd]) is None


def test_the_order_of_insertion_does_not_count() -> None:
    names = [f"name{n}" for n in range(50)]
    assert encode(dict.fromkeys(names, 1)) == encode(dict.fromkeys(reversed(names), 1))
    assert encode({(n,): 1 for n in names}) == encode({(n,): 1 for n in reversed(names)})
    assert encode(set(names)) == encode(frozenset(reversed(names)))


def test_keys_that_become_alike_are_all_kept() -> None:
    class Odd(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

    both = {Odd("a"): 1, Odd("a"): 2}
    assert len(both) == 2
    assert encode(both) not in (encode({"a": 1}), encode({"a": 2}))
    assert encode(both) == encode({Odd("a"): 2, Odd("a"): 1})


def test_a_decimal_does_not_depend_on_the_context() -> None:
    expected = encode(Decimal("1E+30"))
    with localcontext() as context:
        context.capitals = 0
        context.prec = 1
        assert encode(Decimal("1E+30")) == expected


def test_a_timestamp_keeps_its_nanoseconds() -> None:
    class Timestamp(datetime):
        nanosecond = 0

    coarse, fine = Timestamp(2024, 1, 2), Timestamp(2024, 1, 2)
    fine.nanosecond = 5
    assert encode(coarse) == encode(datetime(2024, 1, 2)) != encode(fine)


def test_a_path_is_its_text_and_flavour() -> None:
    assert encode(Path("a/b")) == encode(type(Path().joinpath())("a", "b"))
    assert encode(PurePosixPath("a")) != encode(PureWindowsPath("a"))


def test_a_subclass_that_is_no_dataclass_itself() -> None:
    @dataclasses.dataclass
    class Base:
        x: int

        @functools.cached_property
        def double(self) -> int:
            return 2 * self.x

    class Sub(Base):
        def __init__(self, x: int, tenant: object) -> None:
            super().__init__(x)
            self.tenant = tenant

    values = [Base(1), Sub(1, "ann"), Sub(1, "bob"), Sub(2, "ann")]
    assert len({encode(value) for value in values}) == len(values)
    known = encode(values[1])
    assert values[1].double == 2  # remembered by the object, and no part of it
    assert encode(values[1]) == known == encode(Sub(1, "ann"))
    with pytest.raises(ArgumentNotEncodable, match=r"value.*\.tenant|\[\"tenant\"\]"):
        encode(Sub(1, object()))


def test_private_attributes_of_pydantic_models() -> None:
    pydantic = pytest.importorskip("pydantic", minversion="2")

    class Report(pydantic.BaseModel):
        x: int
        _tenant: str = pydantic.PrivateAttr(default="")

    ann, bob = Report(x=1), Report(x=1)
    assert encode(ann) == encode(bob)
    ann._tenant = "ann"
    assert encode(ann) != encode(bob)


def test_a_month_is_not_thirty_days() -> None:
    class Duration(timedelta):  # as pendulum's
        years, months = 0, 1

    assert encode(Duration(days=30)) != encode(timedelta(days=30))


def test_attrs_classes() -> None:
    attrs = pytest.importorskip("attrs")

    @attrs.define
    class Cat:
        name: str

    @attrs.define
    class Dog:
        name: str

    assert encode(Cat("a")) == encode(Cat("a")) != encode(Cat("b"))
    assert encode(Cat("a")) != encode(Dog("a"))


def test_pydantic_models() -> None:
    pydantic = pytest.importorskip("pydantic", minversion="2")

    class Cat(pydantic.BaseModel):
        name: str
        secret: int = pydantic.Field(default=0, exclude=True)

    class Dog(Cat):
        model_config = pydantic.ConfigDict(extra="allow")

    class Home(pydantic.BaseModel):
        pet: Cat | Dog

    assert encode(Cat(name="a")) == encode(Cat(name="a")) != encode(Cat(name="b"))
    assert encode(Cat(name="a")) != encode(Cat(name="a", secret=1))
    assert encode(Home(pet=Cat(name="a"))) != encode(Home(pet=Dog(name="a")))
    assert encode(Dog(name="a", more=1)) == encode(Dog(more=1, name="a"))
    assert encode(Dog(name="a", more=1)) != encode(Dog(name="a", more=2))


# Refusals


def refusal(value: object, name: str = "filters") -> str:
    with pytest.raises(ArgumentNotEncodable) as caught:
        encode(value, name)
    return str(caught.value)


def test_a_refusal_names_path_type_and_way_out() -> None:
    message = refusal({"since": [1, 2, object()]})
    assert message.startswith('argument filters["since"][2] (of type object) cannot be part')
    assert '[user, "myapp.keys:user_pk"]' in message
    assert "leave it out of significant_kwargs" in message


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "filters"),
        ({1: object()}, "filters[1]"),
        ({(1, 2): object()}, "filters[<tuple>]"),
        ({object(): 1}, "filters[<object>]"),
        ({object()}, "filters{…}"),
        (Point(1, [object()]), "filters.y[0]"),
        (Record({"a": object()}), 'filters.x["a"]'),
        (types.MappingProxyType({"a": object()}), 'filters["a"]'),
        ([0] * 20 + [object()], "filters[20]"),
        ({"x" * 99: object()}, 'filters["' + "x" * 40 + '\\u2026"]'),
    ],
)
def test_the_path_of_a_refusal(value: object, path: str) -> None:
    assert refusal(value).startswith(f"argument {path} (of type object) ")


def nested(levels: int, wrap) -> object:
    value: object = 0
    for _ in range(levels):
        value = wrap(value)
    return value


WRAPS = [
    lambda v: [v],
    lambda v: (v,),
    lambda v: {"a": v},
    lambda v: {1: v},
    lambda v: Point(v),
    lambda v: Record(v),
    lambda v: Speaks(v),
    lambda v: types.MappingProxyType({"a": v}),
    lambda v: Items([v]),
    lambda v: [v] * 8,
]


@pytest.mark.parametrize("wrap", WRAPS[:-1])
def test_depth_has_a_limit(wrap) -> None:
    encode(nested(MAX_DEPTH, wrap))
    for levels in (MAX_DEPTH + 1, 5000):
        assert "nested more than 100 levels deep" in refusal(nested(levels, wrap))


def test_a_set_of_sets_has_a_limit_too() -> None:
    encode(nested(MAX_DEPTH, lambda v: frozenset([v])))
    assert "nested more than 100" in refusal(nested(MAX_DEPTH + 1, lambda v: frozenset([v])))


def test_what_contains_itself_is_refused() -> None:
    items: list = [1]
    items += [items, items]
    table: dict = {}
    table["self"] = table
    odd: dict = {1: 1}
    odd[2] = odd
    speaks = Speaks(None)
    speaks.answer = speaks
    point = Point([])
    point.x.append(point)
    for value in (items, table, odd, speaks, point, items * 9):
        assert "or in itself" in refusal(value)


def test_little_stack_left_is_no_recursion_error() -> None:
    value = nested(90, WRAPS[0])
    outcomes = set()

    def descend(levels: int) -> None:
        if levels:
            return descend(levels - 1)
        try:
            outcomes.add(encode(value))
        except ArgumentNotEncodable as error:
            outcomes.add(type(error.__cause__))

    free = sys.getrecursionlimit() - len(inspect.stack())
    for left in range(20, 250, 10):
        descend(free - left)
    assert outcomes == {encode(value), RecursionError}


class Rude:
    """Raises whatever is asked of it."""

    def __init__(self, error: BaseException) -> None:
        object.__setattr__(self, "error", error)

    def __getattribute__(self, name: str) -> object:
        raise object.__getattribute__(self, "error")

    __json__ = property(lambda self: None)


class RudeList(list):
    def __len__(self) -> int:
        raise ValueError

    def __iter__(self):
        raise ValueError


class RudeDict(dict):
    def items(self):
        raise ValueError


class RudeMapping(collections.abc.Mapping):
    def __getitem__(self, key: object) -> object:
        raise ValueError

    def __iter__(self):
        return iter("a")

    def __len__(self) -> int:
        return 1


class RudeMeta(type):
    def __hash__(cls) -> int:
        raise ValueError

    def __getattribute__(cls, name: str) -> object:
        raise ValueError


class RudeClass(metaclass=RudeMeta):
    pass


class RudeZone(timezone.__base__):
    def utcoffset(self, when: object) -> timedelta:
        raise ValueError


@dataclasses.dataclass
class Unset:
    x: int = dataclasses.field(init=False)


#: Called to make a value, for pytest looks into what it is given.
REFUSED = {
    "Rude(ValueError())": lambda: Rude(ValueError()),
    "Rude(RecursionError())": lambda: Rude(RecursionError()),
    "RudeDict()": lambda: RudeDict(),
    "RudeMapping()": lambda: RudeMapping(),
    "RudeClass()": lambda: RudeClass(),
    "datetime(2024, 1, 1, tzinfo=RudeZone())": lambda: datetime(2024, 1, 1, tzinfo=RudeZone()),
    "Unset()": lambda: Unset(),
    "Mock()": lambda: Mock(),
    "MagicMock()": lambda: MagicMock(),
    "int": lambda: int,
    "len": lambda: len,
    "function": lambda: lambda: None,
    "generator": lambda: (n for n in ()),
    "iter([])": lambda: iter([]),
    "collections.deque()": lambda: collections.deque(),
    "collections.UserList()": lambda: collections.UserList(),
    "ABSENT": lambda: ABSENT,
    "msgspec.msgpack.Ext(5, b'')": lambda: msgspec.msgpack.Ext(5, b""),
    "msgspec.Raw(b'\x01')": lambda: msgspec.Raw(b"\x01"),
    "msgspec.UNSET": lambda: msgspec.UNSET,
    "memoryview(b'abcd').cast('i')": lambda: memoryview(b"abcd").cast("i"),
    "memoryview(b'abcd').cast('B', (2, 2))": lambda: memoryview(b"abcd").cast("B", (2, 2)),
    "NotImplemented": lambda: NotImplemented,
    "ellipsis": lambda: ...,
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_only_the_named_error_comes_out(make) -> None:
    value = make()
    assert refusal(value)
    assert refusal([value])
    assert refusal([1] * 9 + [value])
    assert refusal({"a": value})
    assert refusal({1: value})
    assert refusal(Point(value))


def test_overridden_methods_of_a_list_are_not_asked() -> None:
    assert encode(RudeList([1])) == encode([1])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_request_to_stop_is_not_swallowed(stop: type[BaseException]) -> None:
    class Stops:
        def __json__(self) -> object:
            raise stop

    with pytest.raises(stop):
        encode([Stops()])


def test_the_cause_is_kept() -> None:
    class Fails:
        def __json__(self) -> object:
            raise LookupError("why")

    with pytest.raises(ArgumentNotEncodable, match=r"\[0\].* reading it raised LookupError") as got:
        encode([Fails()])
    assert isinstance(got.value.__cause__, LookupError)
