"""Which mutants there are: every change that cosmic-ray's operators can make to the rules, one at a time.

Left out are those that cannot change what the program does, where the text alone shows it:

* annotations, and `frozen`, `slots` and `kw_only` of dataclasses, which bind those who write the code and not those who run it;
* the decorator of a dataclass that has no field of its own: it inherits all that the decorator would make, or needs none of it;
* `==` for `is` (and the other way round) beside None or a member of an enumeration: there is one object of each, and mypy
  lets nothing be compared with it that could be equal and another;
* an order for `is` beside the least or the greatest member of an enumeration, where the two say the same;
* the bare star of a signature and the two stars before a mapping, which operators take for arithmetic.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parent.parent
RULES = "daemons/ffrtmp/farm"
BINDING_ONLY = {"frozen", "slots", "kw_only"}
ENUMERATIONS = {"Enum", "IntEnum", "StrEnum"}
COMPARISON = "core/ReplaceComparisonOperator_"
IDENTITY = frozenset(f"{COMPARISON}{pair}" for pair in ("Is_Eq", "IsNot_NotEq", "Eq_Is", "NotEq_IsNot"))
DECORATOR = frozenset({"core/RemoveDecorator"})

Place = tuple[int, int]  # line, column
Deaf = tuple[Place, Place, frozenset[str]]  # from, to, the operators that change nothing there (none: all)


@dataclass(frozen=True)
class Unit:
    """What a mutant belongs to: from, to, its digest, the function whose body it is."""

    first: Place
    last: Place
    digest: str
    function: str


@dataclass(frozen=True)
class Mutant:
    """One change. `digest` is of what it belongs to: the body of a function, or else a statement of the module.

    So what is known of a mutant holds until that changes, wherever it stands; comments and docstrings do not count.
    """

    module: str
    digest: str
    operator: str
    place: int  # which of the operator's places in what it belongs to
    occurrence: int  # and in the module
    line: int
    column: int
    function: str  # whose body it is in, as `Class.method`; "" outside of all

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is recorded under."""
        return (self.digest, self.operator, self.place)

    @property
    def name(self) -> str:
        """The module's name for import."""
        return ".".join(Path(self.module).with_suffix("").parts[1:])

    def source(self, text: str) -> str:
        """The module's text with this change."""
        changed: str | None = mutate_code(text, get_operator(self.operator)(), self.occurrence)
        assert changed is not None, f"{self.operator} has no place {self.occurrence} in {self.module}"
        return changed


def mutants() -> Iterator[Mutant]:
    """All of the rules."""
    texts = {path: path.read_text() for path in sorted((ROOT / RULES).glob("*.py"))}
    enumerations = {name: values for text in texts.values() for name, values in _enumerations(ast.parse(text))}
    for path, text in texts.items():
        yield from of_module(str(path.relative_to(ROOT)), text, enumerations)


def of_module(module: str, text: str, enumerations: dict[str, dict[str, str | int]]) -> Iterator[Mutant]:
    """Those of a module with this text."""
    tree = ast.parse(text)
    deaf = [*_annotations(tree), *_unpackings(tree), *_decorators(tree), *_identities(tree, enumerations)]
    units = list(_units(module, tree))
    nodes = list(ast_nodes(get_ast(text)))
    for name in operator_names():
        kind = get_operator(name)
        if kind.arguments():
            continue
        met: Counter[str] = Counter()
        places = (place for node in nodes for place in kind().mutation_positions(node))
        for occurrence, (start, _end) in enumerate(places):
            unit = next(unit for unit in units if unit.first <= start < unit.last)
            met[unit.digest] += 1
            if any(first <= start < last and (not those or name in those) for first, last, those in deaf):
                continue
            line, column = start
            yield Mutant(module, unit.digest, name, met[unit.digest] - 1, occurrence, line, column, unit.function)


def _end(node: ast.expr | ast.stmt | ast.arg) -> Place:
    return node.end_lineno or 0, node.end_col_offset or 0


def _start(node: ast.expr | ast.stmt | ast.arg | ast.keyword) -> Place:
    return node.lineno, node.col_offset


def _units(module: str, tree: ast.Module) -> Iterator[Unit]:
    """What mutants belong to: first the bodies of functions and methods, then the statements of the module without them."""
    for node in tree.body:
        for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{node.name}.{inner.name}" if isinstance(node, ast.ClassDef) else inner.name
                first, last = _start(inner.body[0]), _end(inner)
                yield Unit(first, last, _digest(module, name, *map(ast.dump, _without_docstring(inner))), name)
                inner.body = []
    for node in tree.body:
        first = min([_start(node), *((each.lineno, 0) for each in getattr(node, "decorator_list", ()))])
        last = _end(node)
        if isinstance(node, ast.ClassDef):
            node.body = _without_docstring(node)
        yield Unit(first, last, _digest(module, "", ast.dump(node)), "")


def _without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node) is not None else node.body


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def _annotations(tree: ast.Module) -> Iterator[Deaf]:
    for node in ast.walk(tree):
        parts: list[ast.expr | ast.keyword | None] = []
        if isinstance(node, ast.AnnAssign | ast.arg):
            parts = [node.annotation]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts = [node.returns]
            yield from _star(node)
        elif isinstance(node, ast.ClassDef):
            calls = [each for each in node.decorator_list if isinstance(each, ast.Call)]
            parts = [word for call in calls for word in call.keywords if word.arg in BINDING_ONLY]
        for part in parts:
            if part is not None:
                yield _start(part), (part.end_lineno or 0, part.end_col_offset or 0), frozenset()


def _star(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Deaf]:
    arguments = function.args
    if arguments.kwonlyargs and arguments.vararg is None:
        before: list[ast.expr | ast.arg] = [*arguments.posonlyargs, *arguments.args, *arguments.defaults]
        last = max([_start(function), *map(_end, before)])
        yield last, _start(arguments.kwonlyargs[0]), frozenset()


def _unpackings(tree: ast.Module) -> Iterator[Deaf]:
    for node in ast.walk(tree):
        values: list[ast.expr] = []
        if isinstance(node, ast.Dict):
            values = [value for key, value in zip(node.keys, node.values, strict=True) if key is None]
        elif isinstance(node, ast.Call):
            values = [word.value for word in node.keywords if word.arg is None]
        for value in values:
            yield (value.lineno, value.col_offset - 2), _start(value), frozenset()


def _decorators(tree: ast.Module) -> Iterator[Deaf]:
    for node in tree.body:
        if (
            isinstance(node, ast.ClassDef)
            and node.decorator_list
            and all(isinstance(inner, ast.Expr) for inner in node.body)
            and "dataclass" in ast.dump(node.decorator_list[0])
        ):
            line = node.decorator_list[0].lineno
            yield (line, 0), (line + 1, 0), DECORATOR


def _enumerations(tree: ast.Module) -> Iterator[tuple[str, dict[str, str | int]]]:
    """Each with the values of its members."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id in ENUMERATIONS for b in node.bases):
            given = [each for each in node.body if isinstance(each, ast.Assign)]
            yield node.name, {ast.unparse(each.targets[0]): ast.literal_eval(each.value) for each in given}


def _identities(tree: ast.Module, enumerations: dict[str, dict[str, str | int]]) -> Iterator[Deaf]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare) or len(node.comparators) != 1:
            continue
        place = _end(node.left), _start(right := node.comparators[0])
        if isinstance(right, ast.Constant) and right.value is None:
            yield *place, IDENTITY
        elif isinstance(right, ast.Attribute) and isinstance(right.value, ast.Name) and right.value.id in enumerations:
            yield *place, IDENTITY | _extremes(enumerations[right.value.id], right.attr)


def _extremes(values: dict[str, str | int], member: str) -> frozenset[str]:
    ordered = sorted(values, key=lambda name: values[name])
    pairs = {ordered[0]: ("Is_LtE", "IsNot_Gt"), ordered[-1]: ("Is_GtE", "IsNot_Lt")}.get(member, ())
    return frozenset(f"{COMPARISON}{pair}" for pair in pairs)
