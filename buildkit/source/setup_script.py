"""What a setup.py will do, read from its syntax tree. It is never imported or run. Pure."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from buildkit.source.marks import DOWNLOADS, STANDARD, TARGET_FLAG, Mark

EXTENSIONS = frozenset({"Extension", "CppExtension", "CUDAExtension", "SyclExtension", "CMakeExtension"})
_FETCHING = frozenset(
    {"urllib", "urllib2", "urllib3", "requests", "httpx", "http", "ftplib", "wget", "gdown", "aiohttp"}
)
_OPTIONAL = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{2,199}\Z")  # as long as a recipe may hold
_OPTION = re.compile(r"\A--(?=[a-z_-]*(?:cuda|gpu|cpu))[a-z_-]+\Z")


@dataclass(frozen=True)
class Extension:
    """A call that makes an extension. ``kind`` is CUDAExtension where it may be one; unknown parts of names are {}."""

    kind: str
    name: str
    sources: tuple[str, ...]
    file: str
    line: int


@dataclass(frozen=True)
class Variable:
    """An environment variable that is read, and the text that it is compared with (``1`` where none is seen)."""

    name: str
    value: str
    file: str
    line: int


@dataclass(frozen=True)
class Import:
    """A module that is imported; ``optional`` where the script goes on without it."""

    module: str
    file: str
    line: int
    optional: bool


@dataclass(frozen=True)
class SetupScript:
    """What was found. ``arguments`` are the texts that setup() is called with, with the line of each."""

    arguments: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    classifiers: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    """``packages`` and ``py_modules`` where they are written out."""
    extensions: tuple[Extension, ...] = ()
    variables: tuple[Variable, ...] = ()
    imports: tuple[Import, ...] = ()
    standards: tuple[Mark, ...] = ()
    targets: tuple[Mark, ...] = ()
    serial: tuple[Mark, ...] = ()
    network: tuple[Mark, ...] = ()
    options: tuple[Mark, ...] = ()
    """Words of its own command line, which no build frontend passes."""
    runs_cmake: bool = False
    problem: str = ""
    """Why it could not be read."""


def read_setup(text: str, file: str = "setup.py") -> SetupScript:
    """Read a script. One that does not parse gives nothing but ``problem``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in somebody's text is no concern of ours
            tree = ast.parse(text.removeprefix("\ufeff"))
        return _Reader(tree, file).read()
    except SyntaxError as error:
        return SetupScript(problem=f"{file}:{error.lineno or 1}: is not Python {sys.version_info[0]}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return SetupScript(problem=f"{file}: cannot be read: {type(error).__name__}")


class _Reader:
    def __init__(self, tree: ast.Module, file: str) -> None:
        self._file = file
        self._nodes = list(ast.walk(tree))
        self._parents = {child: node for node in self._nodes for child in ast.iter_child_nodes(node)}
        self._values = _constants(tree)
        self._aliases = _aliases(self._nodes)
        self._optional = _in_forgiving_try(tree)
        self._imported = tuple(self._imports())

    def read(self) -> SetupScript:
        setup = next((node for node in self._calls() if _last(node.func) == "setup"), None)
        given = {word.arg: word.value for word in setup.keywords if word.arg} if setup else {}
        texts = {name: (text, value.lineno) for name, value in given.items() if (text := self._text(value)) is not None}
        return SetupScript(
            arguments=texts,
            classifiers=self._texts(given.get("classifiers")),
            modules=(*self._texts(given.get("packages")), *self._texts(given.get("py_modules"))),
            extensions=tuple(self._extensions()),
            variables=tuple({variable.name: variable for variable in reversed(list(self._variables()))}.values())[::-1],
            imports=self._imported,
            standards=tuple(self._marks(STANDARD)),
            targets=tuple(self._marks(TARGET_FLAG)),
            serial=tuple(self._serial()),
            network=tuple(self._network()),
            options=tuple(self._marks(_OPTION)) if self._reads_arguments() else (),
            runs_cmake=any("cmake" in text.lower() for text, _line in self._strings()),
        )

    def _calls(self) -> Iterator[ast.Call]:
        return (node for node in self._nodes if isinstance(node, ast.Call))

    def _strings(self) -> Iterator[tuple[str, int]]:
        """Every text of the script, but for those that stand alone: docstrings do nothing."""
        for node in self._nodes:
            alone = isinstance(self._parents.get(node), ast.Expr)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and not alone:
                yield node.value, node.lineno

    def _marks(self, pattern: re.Pattern[str]) -> Iterator[Mark]:
        for text, line in self._strings():
            if match := pattern.search(text):
                yield Mark(match[0].strip(), self._file, line)

    def _text(self, node: ast.expr | None) -> str | None:
        """A text that is written out, or named once and written out at the top of the script."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        return self._values.get(node.id) if isinstance(node, ast.Name) else None

    def _texts(self, node: ast.expr | None) -> tuple[str, ...]:
        """The texts of a list; joined paths too."""
        if not isinstance(node, (ast.List, ast.Tuple)):
            return ()
        return tuple(text for item in node.elts if (text := self._path(item)) is not None)

    def _path(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Call) and _last(node.func) == "join":
            parts = [self._text(part) for part in node.args]
            return "/".join(part or "{}" for part in parts)
        return self._text(node)

    def _extensions(self) -> Iterator[Extension]:
        for call in self._calls():
            kinds = self._aliases.get(_last(call.func), frozenset())
            if not kinds:
                continue
            named = {word.arg: word.value for word in call.keywords if word.arg}
            name = call.args[0] if call.args else named.get("name")
            sources = call.args[1] if len(call.args) > 1 else named.get("sources")
            kind = next((one for one in ("CUDAExtension", "CppExtension") if one in kinds), min(kinds))
            yield Extension(kind, self._pattern(name), self._texts(sources), self._file, call.lineno)

    def _pattern(self, node: ast.expr | None) -> str:
        """A name, with {} for what only the running script knows."""
        if isinstance(node, ast.JoinedStr):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        return self._text(node) or "{}"

    def _variables(self) -> Iterator[Variable]:
        for node in self._nodes:
            name = _variable_of(node)
            text = self._text(name) if name is not None else None
            if text and _VARIABLE.match(text):
                yield Variable(text, self._compared(node) or "1", self._file, getattr(node, "lineno", 1))
        for call in self._calls():  # a function of the script's own that reads one: flag("FORCE_CUDA")
            text = self._text(call.args[0]) if call.args else None
            if text and "env" in _last(call.func).lower() and _variable_of(call) is None and _VARIABLE.match(text):
                yield Variable(text, "1", self._file, call.lineno)

    def _compared(self, node: ast.AST) -> str | None:
        """The text for which ``os.getenv(...) == "TRUE"`` holds, through ``.lower()`` and ``int()``."""
        above = self._parents.get(node)
        while isinstance(above, (ast.Attribute, ast.Call)):
            node, above = above, self._parents.get(above)
        if (
            not isinstance(above, ast.Compare)
            or above.left is not node
            or not isinstance(above.ops[0], (ast.Eq, ast.In))
        ):
            return None
        right = above.comparators[0]
        if isinstance(right, (ast.List, ast.Tuple, ast.Set)):
            right = right.elts[0] if right.elts else right
        if isinstance(right, ast.Constant) and isinstance(right.value, (str, int)):
            value = str(int(right.value)) if isinstance(right.value, bool) else str(right.value)
            return value if value != "0" and value.isprintable() and 0 < len(value) < 100 else None
        return None

    def _imports(self) -> Iterator[Import]:
        for node in self._nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name.partition(".")[0], self._file, node.lineno, node in self._optional)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield Import(node.module.partition(".")[0], self._file, node.lineno, node in self._optional)

    def _serial(self) -> Iterator[Mark]:
        for call in self._calls():
            for word in call.keywords:
                if word.arg == "use_ninja" and isinstance(word.value, ast.Constant) and word.value.value is False:
                    yield Mark("use_ninja=False", self._file, call.lineno)

    def _network(self) -> Iterator[Mark]:
        for found in self._imported:
            if found.module in _FETCHING:
                yield Mark(f"imports {found.module}", self._file, found.line)
        yield from self._marks(DOWNLOADS)
        for node in self._nodes:
            if isinstance(node, (ast.List, ast.Tuple)) or (isinstance(node, ast.Call) and node.args):
                words = node.args if isinstance(node, ast.Call) else node.elts
                line = " ".join(self._text(word) or "{}" for word in words[:4])
                if len(words) > 1 and DOWNLOADS.match(line):
                    yield Mark(line, self._file, node.lineno)

    def _reads_arguments(self) -> bool:
        return any(
            (isinstance(node, ast.Attribute) and node.attr == "argv")
            or (isinstance(node, ast.Name) and node.id == "argv")
            for node in self._nodes
        )


def _in_forgiving_try(tree: ast.Module) -> frozenset[ast.AST]:
    """The imports after which the script goes on where their module is missing: the ``try`` next above decides."""
    found: set[ast.AST] = set()
    left: list[tuple[ast.AST, bool]] = [(tree, False)]
    while left:
        node, optional = left.pop()
        found |= {node} if optional and isinstance(node, (ast.Import, ast.ImportFrom)) else set()
        inner: frozenset[ast.AST] = frozenset(node.body if isinstance(node, ast.Try) else ())
        forgiving = isinstance(node, ast.Try) and any(_forgives(handler) for handler in node.handlers)
        left += [(child, forgiving if child in inner else optional) for child in ast.iter_child_nodes(node)]
    return frozenset(found)


def _constants(tree: ast.Module) -> dict[str, str]:
    """Texts that the script gives a name at its top, once."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    twice |= {target.id} & found.keys()
                    found[target.id] = node.value.value
    return {name: value for name, value in found.items() if name not in twice}


def _aliases(nodes: Iterable[ast.AST]) -> dict[str, frozenset[str]]:
    """The names that kinds of extensions go by: ``extension = CppExtension``, and later ``= CUDAExtension``."""
    found: dict[str, frozenset[str]] = {name: frozenset({name}) for name in EXTENSIONS}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.asname and alias.name in EXTENSIONS:
                    found[alias.asname] = frozenset({alias.name})
        elif isinstance(node, ast.Assign) and isinstance(node.value, (ast.Name, ast.Attribute, ast.IfExp)):
            chosen = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
            kinds = frozenset(_last(value) for value in chosen) & EXTENSIONS
            for target in node.targets:
                if kinds and isinstance(target, ast.Name):
                    found[target.id] = found.get(target.id, frozenset()) | kinds
    return found


def _variable_of(node: ast.AST) -> ast.expr | None:
    """The expression that names the variable which this node reads from the environment."""
    if isinstance(node, ast.Call) and node.args:
        whole = ast.unparse(node.func) if isinstance(node.func, (ast.Attribute, ast.Name)) else ""
        if re.search(r"(^|\.)(getenv|environ(b)?\.(get|pop|setdefault))$", whole):
            return node.args[0]
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and _last(node.value) == "environ":
        return node.slice
    is_in = isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn))
    if isinstance(node, ast.Compare) and is_in and _last(node.comparators[0]) == "environ":
        return node.left
    return None


def _last(node: ast.expr) -> str:
    """``CUDAExtension`` of ``cpp_extension.CUDAExtension``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _forgives(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    caught = any(kind is None or _last(kind) in _OPTIONAL for kind in kinds)
    return caught and not any(isinstance(node, ast.Raise) for part in handler.body for node in ast.walk(part))
