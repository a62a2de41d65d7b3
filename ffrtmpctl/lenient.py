"""Types that let through what a newer master says.

The API's types name every word that exists today, which is right for what we send. What we *read* may come from a
master that is a version ahead; its new state or queue is still worth showing. `relaxed` makes a copy of a type in which
such words are plain text and new fields are passed over. It is used only after strict decoding failed, because making
the copies costs a few milliseconds.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec

T = TypeVar("T")


def relaxed(kind: type[T]) -> type[T]:
    """`kind` with every Literal widened to the type of its words, through all structs and collections in it."""
    asked: Any = kind
    return cast("type[T]", _relax(asked))


@cache
def _relax(kind: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return type(inner[0])
    if _is_struct(origin or kind):
        return _struct(kind)
    if origin is None or not inner:
        return kind
    parts = tuple(part if part is Ellipsis else _relax(part) for part in inner)
    if origin in (Union, types.UnionType):
        return Union[parts]  # noqa: UP007 - the members are known only here
    return origin[parts]


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _struct(kind: Any) -> Any:
    plain = get_origin(kind) or kind
    fields: list[Any] = []
    for known in msgspec.structs.fields(kind):
        default: Any = msgspec.field(name=known.encode_name)
        if known.default is not msgspec.NODEFAULT:
            default = msgspec.field(default=known.default, name=known.encode_name)
        elif known.default_factory is not msgspec.NODEFAULT:
            default = msgspec.field(default_factory=known.default_factory, name=known.encode_name)
        fields.append((known.name, _relax(known.type), default))
    # The copy inherits the methods and properties; it differs in the types of its fields alone.
    return msgspec.defstruct(plain.__name__, fields, bases=(plain,), frozen=True, forbid_unknown_fields=False)
