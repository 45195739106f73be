"""What travels between processes arrives as the same thing, or says why it can't."""

from __future__ import annotations

import io
import pickle
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from far_process import Far, run_script
from forkright import _pickling


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    with Far() as process:
        yield process


def script(text: str, folder: Path) -> list[str]:
    return run_script(textwrap.dedent(text), folder).splitlines()


def test_classes_and_enum_members_of_main_come_back_identical(tmp_path: Path) -> None:
    lines = script(
        """
        import dataclasses, enum, typing
        class Colour(enum.Enum):
            RED = 1
        @dataclasses.dataclass
        class Point:
            x: int
            def up(self): return Point(self.x + 1)
        class Pair(typing.NamedTuple):
            a: int
        class Base: pass
        class Derived(Base):
            __slots__ = ("y",)
            def __init__(self): super().__init__(); self.y = 3
        up = Point.__dict__["up"]
        point = far.call(lambda p: p.up(), Point(1))
        print(point == Point(2), type(point) is Point, Point.__dict__["up"] is up)
        print(far.call(lambda c: {"a": [c, Colour]}, Colour.RED) == {"a": [Colour.RED, Colour]})
        print(far.call(lambda c: c, Colour.RED) is Colour.RED)
        print(type(far.call(lambda: Pair(1))) is Pair, type(far.call(Derived)) is Derived, far.call(Derived).y)
        print([type(p) is Point for p in far.call(lambda n: [Point(i) for i in range(n)], 3)])
        """,
        tmp_path,
    )
    assert lines == ["True True True", "True", "True", "True True 3", "[True, True, True]"]


def test_classes_defined_in_a_function_come_back_identical(far: Far) -> None:
    class Node:
        def __init__(self, children: list[Any]) -> None:
            self.children = children

        def wrapped(self) -> Node:
            return Node([self])

    method = Node.wrapped
    found = far.call(lambda node: node.wrapped(), Node([]))
    assert type(found) is Node and type(found.children[0]) is Node
    assert Node.wrapped is method


def test_classes_that_name_each_other_travel(far: Far) -> None:
    class Left:
        def other(self) -> Any:
            return Right()

    class Right:
        def other(self) -> Any:
            return Left()

    assert type(far.call(lambda: Left().other())) is Right
    assert type(far.call(lambda value: value.other(), Right())) is Left


def test_a_worker_keeps_one_class_and_its_own_state_until_the_caller_changes_it(far: Far) -> None:
    class Model:
        rate = 1

    def same(model: Any, first: bool) -> tuple[bool, int]:
        import builtins

        if first:
            builtins.kept = type(model)  # type: ignore[attr-defined]
        return builtins.kept is type(model), model.rate  # type: ignore[attr-defined]

    assert far.call(same, Model(), True) == (True, 1)
    assert far.call(same, Model(), False) == (True, 1)
    Model.rate = 2
    assert far.call(same, Model(), False) == (True, 2)
    Model.rate = 1
    assert far.call(same, Model(), False) == (True, 1)


def test_a_class_made_by_the_task_travels_by_value(far: Far) -> None:
    def make() -> Any:
        class Made:
            def twice(self) -> int:
                return 2 * self.n

            n = 4

        return Made()

    assert far.call(make).twice() == 8


def test_functions_that_go_out_and_come_back_are_the_same_functions(far: Far) -> None:
    def inner() -> int:
        return 1

    assert far.call(lambda f: [f, f()], inner) == [inner, 1]


def test_functions_that_share_a_variable_still_share_it(far: Far) -> None:
    def counter() -> Any:
        count = 0

        def add() -> None:
            nonlocal count
            count += 1

        def get() -> int:
            return count

        return add, get

    add, get = far.call(counter)
    add()
    add()
    assert get() == 2


def test_pickle_inside_a_task_finds_the_classes_of_main(tmp_path: Path) -> None:
    lines = script(
        """
        import pickle
        class Point:
            x = 1
        def helper(): return 5
        def task(point):
            return pickle.loads(pickle.dumps([point, helper]))[0].x, pickle.loads(pickle.dumps(helper))()
        print(far.call(task, Point()))
        """,
        tmp_path,
    )
    assert lines == ["(1, 5)"]


def test_what_an_initializer_sets_is_there_for_the_tasks(tmp_path: Path) -> None:
    lines = script(
        """
        connection = None
        def initialize(value):
            global connection, other
            connection = other = value
        def work(x): return connection + other + x
        far.call(initialize, 10); print(far.call(work, 1))
        connection = 100; print(far.call(work, 1))
        connection = None; far.call(initialize, 1); print(far.call(work, 1))
        """,
        tmp_path,
    )
    assert lines == ["21", "111", "3"]


def test_a_global_that_changes_to_and_fro_is_right_each_time(tmp_path: Path) -> None:
    lines = script(
        """
        FACTOR = 3
        SETTINGS = {"n": 1}
        def scale(x): return x * FACTOR + SETTINGS["n"]
        print(far.call(scale, 2))
        FACTOR = 5; print(far.call(scale, 2))
        FACTOR = 3; print(far.call(scale, 2))
        SETTINGS["n"] = 7; print(far.call(scale, 2))
        SETTINGS["n"] = 1; print(far.call(scale, 2))
        """,
        tmp_path,
    )
    assert lines == ["7", "11", "7", "13", "7"]


def test_an_error_of_main_arrives_as_its_class_with_attributes_and_traceback(tmp_path: Path) -> None:
    lines = script(
        """
        class Failure(Exception):
            def __init__(self, code, text):
                super().__init__(text); self.code = code
        def fail():
            raise Failure(3, "no")
        try:
            far.call(fail)
        except Failure as error:
            print(type(error) is Failure, error.code, error.args)
            cause = error.__cause__
            print("in fail" in str(cause), type(cause).__name__, "/forkright/" in str(cause))
        """,
        tmp_path,
    )
    assert lines == ["True 3 ('no',)", "True RemoteTraceback False"]


def test_the_chain_and_the_notes_of_an_error_are_kept(far: Far) -> None:
    def fail() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            outer = ValueError("outer")
            outer.add_note("a note")
            raise outer from error

    with pytest.raises(ValueError, match="outer") as caught:
        far.call(fail)
    assert caught.value.__notes__ == ["a note"]
    assert isinstance(caught.value.__context__, KeyError)
    assert "KeyError: 'inner'" in str(caught.value.__cause__)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_errors_that_are_no_exceptions_are_kept_as_such(far: Far, kind: type[BaseException]) -> None:
    def fail(kind: type[BaseException]) -> None:
        raise kind(3)

    with pytest.raises(kind) as caught:
        far.call(fail, kind)
    assert caught.value.args == (3,)


def test_an_error_that_holds_a_lock_loses_only_the_lock(far: Far) -> None:
    def fail() -> None:
        error = OSError(2, "gone")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        error.path = "x"  # type: ignore[attr-defined]
        raise error

    with pytest.raises(FileNotFoundError) as caught:
        far.call(fail)
    assert caught.value.errno == 2 and caught.value.path == "x"  # type: ignore[attr-defined]


def test_an_error_that_refuses_to_be_rebuilt_arrives_as_its_text() -> None:
    class Stubborn(Exception):
        def __new__(cls, *args: Any, allowed: bool = False) -> Stubborn:
            if allowed:
                return super().__new__(cls, *args)
            raise TypeError("no, no")

        def __reduce__(self) -> Any:
            raise TypeError("never")

        def __init__(self, *args: Any, allowed: bool = False) -> None:
            super().__init__(*args)

        def __str__(self) -> str:
            return "stubborn text"

    error = _pickling.decode_exception(_pickling.encode_exception(Stubborn("no", allowed=True)))
    assert type(error) is _pickling.RemoteError
    assert "Stubborn: stubborn text" in str(error)


def test_an_error_whose_text_fails_still_arrives() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("hostile")

    assert type(_pickling.decode_exception(_pickling.encode_exception(Hostile()))) is Hostile


class Session:
    def __init__(self) -> None:
        self._lock = threading.Lock()


class Request:
    def __init__(self) -> None:
        self.session = Session()


def captured() -> Any:
    lock = [threading.Lock()]
    return lambda: lock


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: (Request(), 1), "`args[0].session._lock`"),
        (lambda: {"a": [1, Request()]}, "`argument['a'][1].session._lock`"),
        (captured, "`lock[0]`, where `lock` is captured by"),
        (lambda: (x for x in ()), "`argument` is of type `generator`"),
        (lambda: [io.TextIOWrapper(io.BytesIO())], "`argument[0]` is of type `_io.TextIOWrapper`"),
    ],
)
def test_what_cant_be_pickled_is_named_with_the_path_to_it(make: Any, path: str) -> None:
    with pytest.raises(pickle.PicklingError) as caught:
        _pickling.encode(make(), None, "argument 2 of `simulate`")
    text = str(caught.value)
    assert text.startswith("argument 2 of `simulate` can't be sent") and path in text and "plan=" in text
    assert caught.value.__cause__ is not None


def test_the_members_of_a_group_keep_their_classes(tmp_path: Path) -> None:
    lines = script(
        """
        class Failure(Exception):
            def __init__(self, *, code):
                super().__init__(); self.code = code
        def fail(): raise ExceptionGroup("two", [Failure(code=3), ValueError("x")])
        try:
            far.call(fail)
        except* Failure as group:
            print(group.exceptions[0].code)
        except* ValueError as group:
            print(group.exceptions)
        """,
        tmp_path,
    )
    assert lines == ["3", "(ValueError('x'),)"]


def test_classes_with_unusual_insides_travel(tmp_path: Path) -> None:
    lines = script(
        """
        import abc, dataclasses, functools, typing
        class Slots:
            __slots__ = ("a", "__weakref__")
            def __init__(self): self.a = 1
        class Lazy:
            @functools.cached_property
            def value(self): return 41
        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...
        class Square(Shape):
            def area(self): return 4
        T = typing.TypeVar("T")
        class Box(typing.Generic[T]): pass
        @dataclasses.dataclass(frozen=True, slots=True)
        class Frozen:
            items: list = dataclasses.field(default_factory=list)
        print(far.call(lambda s: s, Slots()).a, far.call(lambda o: o.value, Lazy()))
        print(far.call(lambda s: (s.area(), isinstance(s, Shape)), Square()))
        print(type(far.call(lambda: Box())) is Box, type(far.call(Frozen)) is Frozen)
        """,
        tmp_path,
    )
    assert lines == ["1 41", "(4, True)", "True True"]


def test_a_class_in_another_keeps_its_full_name(far: Far) -> None:
    class Outer:
        class Inner:
            pass

    assert far.call(lambda: Outer.Inner.__qualname__) == Outer.Inner.__qualname__


def test_structures_of_ctypes_travel(tmp_path: Path) -> None:
    lines = script(
        """
        import ctypes
        class Point(ctypes.Structure):
            _pack_ = 1
            _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]
            def area(self): return self.x * self.y
        class Either(ctypes.Union):
            _anonymous_ = ("point",)
            _fields_ = [("point", Point), ("number", ctypes.c_int)]
        class Node(ctypes.Structure): pass
        Node._fields_ = [("value", ctypes.c_int), ("next", ctypes.POINTER(Node))]
        class Big(ctypes.BigEndianStructure):
            _fields_ = [("low", ctypes.c_int, 3), ("high", ctypes.c_int, 5)]
        class Solid(Point):
            _fields_ = [("more", ctypes.c_int * 3)]
        class Three(ctypes.c_int * 3): pass
        def follow():
            first = Node(1)
            return Node(2, ctypes.pointer(first)).next.contents.value
        moved = far.call(lambda point: Point(point.x + 1, point.y), Point(1, 2.5))
        print(type(moved) is Point, moved.area(), far.call(ctypes.sizeof, Point))
        print(far.call(lambda either: either.x, Either(number=7)), far.call(follow))
        print(bytes(far.call(lambda big: Big(big.low, 2), Big(1, 3))) == bytes(Big(1, 2)))
        print(list(far.call(lambda: Solid(1, 2, (3, 4, 5))).more), list(far.call(lambda: Three(1, 2, 3))))
        Point.area = lambda point: -1
        print(far.call(lambda point: point.area(), Point()))
        """,
        tmp_path,
    )
    assert lines == ["True 5.0 12", "7 1", "True", "[3, 4, 5] [1, 2, 3]", "-1"]


def test_endless_nesting_is_an_error_and_no_crash() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(_pickling.UnpicklableError, match="nested too deeply"):
        _pickling.encode(deep, None, "argument 1 of `f`")


def test_large_buffers_go_out_of_band_also_by_value() -> None:
    class Holder:
        def __init__(self) -> None:
            self.data = pickle.PickleBuffer(bytearray(100_000))

    buffers: list[Any] = []
    stream = _pickling.encode(Holder(), buffers, "argument 1 of `f`")
    assert len(buffers) == 1 and len(stream) < 10_000
    found = _pickling.decode(stream, [bytes(buffer) for buffer in buffers])
    assert type(found) is Holder and len(found.data) == 100_000


def test_workers_draw_numbers_of_their_own(tmp_path: Path) -> None:
    lines = script(
        """
        import random
        from random import random as draw, randint
        from functools import partial
        other = Far()
        for function in (lambda: draw(), lambda: randint(0, 10**12), draw, partial(randint, 0, 10**12)):
            print(far.call(function) != other.call(function))
        own = random.Random(3); twin = random.Random(3).random()
        print(far.call(lambda: own.random()) == twin)
        try:
            from numpy.random import rand
        except ImportError:
            print(True)
        else:
            print(far.call(lambda: float(rand())) != other.call(lambda: float(rand())))
        """,
        tmp_path,
    )
    assert lines == ["True"] * 6


def test_what_raises_while_it_is_rebuilt_says_so() -> None:
    class Broken:
        def __reduce__(self) -> Any:
            return int, ("x",)

    stream = _pickling.encode(Broken(), None, "the result of `f`")
    with pytest.raises(ValueError, match="invalid literal") as caught:
        _pickling.decode(stream)
    error = _pickling.undecodable(caught.value, "the result of `f`")
    assert "the result of `f` could not be rebuilt" in str(error) and error.__cause__ is caught.value
