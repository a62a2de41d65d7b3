"""Values in the shape of a type: sound ones, and sound ones with something spoilt.

`sound` builds what `msgspec.to_builtins` would give for a value of a type; words that mean something to the one who reads
them (numbers of sessions, names of scenarios) come from `hints`, by field name. `spoilt` changes it in up to three places,
and in near half of the cases in none: what is decoded must reach the rules behind the decoder often enough.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

Hints = Mapping[str, st.SearchStrategy[Any]]

WORDS = st.sampled_from(("", "a", "b", "anna", "x.mp4", "media", "1", "film one", "ünïcode", "..", "/", "%s", "-"))
TEXT = WORDS | st.text(max_size=20)
WHOLE = st.integers(0, 5) | st.integers(0, 1 << 40)
EDGES: tuple[Any, ...] = (
    *(
        None,
        True,
        "",
        " ",
        "\0",
        "\n",
        "x" * 300,
        "x" * 70_000,
        "../../etc/passwd",
        "1e999",
        "-",
        "\ud7ff\uffff",
        "nan",
    ),
    *(-1, 0, 1, 255, 1 << 31, (1 << 53) + 1, (1 << 62) + 1, (1 << 63) - 1, (1 << 64) - 1, -(1 << 63)),
    *(0.0, -0.0, -1.5, 1e-300, 1e300, float("inf"), float("-inf"), float("nan")),
    *("9" * 400, "9" * 400 + "M", "1." + "0" * 400),
    *([], [[]], ["x"], ["x"] * 600, {}, {"x": 1}, [None, 1, "x"]),
)


def sound(kind: Any, hints: Hints) -> st.SearchStrategy[Any]:
    """Builtins that a decoder of `kind` takes."""
    return _of(inspect.type_info(kind), hints)


PLAIN: dict[type[inspect.Type], st.SearchStrategy[Any]] = {
    inspect.IntType: WHOLE,
    inspect.FloatType: st.floats(0, 1e6) | st.just(0.0),
    inspect.StrType: TEXT,
    inspect.BytesType: st.binary(max_size=200),
    inspect.BoolType: st.booleans(),
    inspect.NoneType: st.none(),
}


def _of(kind: inspect.Type, hints: Hints, name: str = "") -> st.SearchStrategy[Any]:
    if name in hints or type(kind) in PLAIN:
        return hints[name] if name in hints else PLAIN[type(kind)]
    match kind:
        case inspect.LiteralType():
            return st.sampled_from(list(kind.values))
        case inspect.UnionType():
            return st.one_of([_of(each, hints, name) for each in kind.types])
        case inspect.VarTupleType() | inspect.ListType():
            return st.lists(_of(kind.item_type, hints, name + "[]"), max_size=4)
        case inspect.TupleType():
            return st.tuples(*[_of(each, hints) for each in kind.item_types]).map(list)
        case inspect.DictType():
            return st.dictionaries(WORDS, _of(kind.value_type, hints, name + "{}"), max_size=3)
        case inspect.StructType():
            return _struct(kind, hints)
    raise AssertionError(f"nobody knows how {kind} looks")


def _struct(kind: inspect.StructType, hints: Hints) -> st.SearchStrategy[dict[str, Any]]:
    needed: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for field in kind.fields:
        table = needed if field.required or field.name in hints else optional
        table[field.encode_name] = _of(field.type, hints, field.name)
    shape = st.fixed_dictionaries(needed, optional=optional)
    if kind.tag_field is None:
        return shape
    return shape.map(lambda given: {kind.tag_field: kind.tag, **given})


@st.composite
def spoilt(draw: st.DrawFn, whole: st.SearchStrategy[Any], times: int = 3) -> Any:
    """A value of `whole` with up to `times` places that are not as they should be."""
    value = copy.deepcopy(draw(whole))
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 1, 2, times)))):
        places = list(_places(value))
        if places:
            _spoil(draw, *draw(st.sampled_from(places)))
    return value


def _places(value: Any) -> Any:
    """Every (container, key) in a tree of builtins."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def _spoil(draw: st.DrawFn, container: Any, key: Any) -> None:
    how = draw(st.integers(0, 9))
    if how == 0:
        del container[key]
    elif how == 1 and isinstance(container, dict):
        container[draw(TEXT)] = container.pop(key)
    elif how == 2 and isinstance(container, list):
        container.extend([container[key]] * draw(st.sampled_from((1, 40, 600))))
    elif how == 3 and isinstance(container[key], str):
        at = draw(st.integers(0, len(container[key])))
        container[key] = container[key][:at] + draw(st.text(max_size=3)) + container[key][at:]
    elif how == 4 and isinstance(container[key], int | float) and not isinstance(container[key], bool):
        container[key] = _grown(container[key], draw(st.sampled_from((-1, 1000, 0.5, 1 << 40))))
    else:
        container[key] = copy.deepcopy(draw(st.sampled_from(EDGES)))  # it may be spoilt further


def _grown(value: float, factor: float) -> float:
    grown = value * factor
    return min(max(grown, -(1 << 63)), (1 << 64) - 1) if isinstance(grown, int) else grown


@st.composite
def bitten(draw: st.DrawFn, raw: st.SearchStrategy[bytes]) -> bytes:
    """Bytes, now and then with some that were changed, cut off or put in."""
    data = bytearray(draw(raw))
    if not 40 <= draw(st.integers(0, 99)) < 45:  # hypothesis likes the ends of a range
        return bytes(data)
    at = draw(st.integers(0, len(data)))
    how = draw(st.integers(0, 3))
    if how == 0:
        data[at : at + 1] = draw(st.sampled_from((b"\x80", b"\xff")) | st.binary(min_size=1, max_size=2))
    elif how == 1:
        del data[at:]
    elif how == 2:
        data[at:at] = draw(st.binary(max_size=20))
    else:
        data[at:at] = draw(st.sampled_from((b"[", b"{", b"\x91", b'{"a":'))) * 5000
    return bytes(data)


def packed(value: Any) -> bytes:
    """Builtins in msgpack."""
    return msgspec.msgpack.encode(value)


def written(value: Any) -> bytes:
    """Builtins in JSON; what JSON cannot say becomes null."""
    return msgspec.json.encode(value)


def toml(table: Mapping[str, Any]) -> str:
    """A table in TOML, one level of tables deep; what TOML cannot say is left out."""
    lines = [f"{_key(key)} = {_toml(value)}" for key, value in table.items() if not _is_table(value)]
    for key, value in table.items():
        if _is_table(value):
            lines.append(f"[{_key(key)}]")
            lines += [f"{_key(inner)} = {_toml(each)}" for inner, each in value.items() if each is not None]
    return "\n".join(line for line in lines if not line.endswith("= ")) + "\n"


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _key(key: str) -> str:
    return key if key.replace("_", "").isalnum() and key.isascii() else _toml(key)


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(each) for each in value if each is not None) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(each)}" for key, each in value.items() if each is not None) + "}"
    if isinstance(value, int) and value == (1 << 64) - 1:
        return "9" * 400  # the one format with numbers of any length
    return "" if value is None else str(value)
