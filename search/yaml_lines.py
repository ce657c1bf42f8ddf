"""YAML into typed frozen dataclasses, with the file and line of everything that is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from search.errors import ConfigError

T = TypeVar("T")
TYPE_NAMES: Mapping[Any, str] = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false",
    NoneType: "null",
}  # fmt: skip


class FieldError(ValueError):
    """A value out of range, told by the field it belongs to (dotted below a section)."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")


@dataclass(frozen=True, kw_only=True)
class SourceLines:
    """Where values came from: the YAML file and the line of each dotted key.

    List entries have keys of their own, such as ``space.precision.1``.
    """

    path: Path | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    overridden: frozenset[str] = frozenset()

    def error(self, key: str, message: str) -> ConfigError:
        """Return an error that names a dotted key, at its line or its nearest ancestor's."""
        name = key
        while name:
            if name in self.overridden:
                return ConfigError(None, None, f"command line: {key}: {message}")
            if name in self.lines:
                return ConfigError(self.path, self.lines[name], f"{key}: {message}")
            name = name.rpartition(".")[0]
        return ConfigError(self.path, None, f"{key}: {message}" if key else message)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Nested plain values and where each came from."""

    values: dict[str, Any]
    source: SourceLines


def load_tree(path: Path, overrides: Mapping[str, Any]) -> Tree:
    """Read a YAML file and lay dotted overrides over it.

    Raises:
        ConfigError: Unreadable, not YAML, a duplicate key or an anchor.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
    except OSError as error:
        raise ConfigError(path, None, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(path, None, f"is not UTF-8 text: {error.reason}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ConfigError(path, mark.line + 1 if mark else None, f"{error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(path, None, f"is not YAML: {error}") from error
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(path, 1, "a sweep is a mapping of keys such as `study: quickstart`")
    reader = _Reader(path, loader)
    values = reader.mapping(node, "")
    for key, value in overrides.items():
        _lay_over(values, key, value)
    source = SourceLines(path=path, lines=reader.lines, overridden=frozenset(overrides))
    return Tree(values=values, source=source)


class _Reader:
    """Turns YAML nodes into plain values and notes the line of each."""

    def __init__(self, path: Path, loader: yaml.SafeLoader) -> None:
        self.path, self.loader = path, loader
        self.lines: dict[str, int] = {}
        self.seen: set[int] = set()

    def mapping(self, node: yaml.MappingNode, prefix: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                raise ConfigError(self.path, line, "a key must be plain text")
            name = str(key_node.value)
            key = f"{prefix}{name}"
            if name in values:
                first = self.lines[key]
                raise ConfigError(
                    self.path, line, f"duplicate key {key!r}, first on line {first}: keep one"
                )
            self.lines[key] = line
            values[name] = self.value(value_node, key)
        return values

    def value(self, node: yaml.Node, key: str) -> Any:  # noqa: ANN401 - any YAML value
        self.lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            try:
                return self.loader.construct_object(node)
            except (yaml.YAMLError, ValueError) as error:
                raise ConfigError(
                    self.path, self.lines[key], f"{key}: {node.value!r} cannot be read: use plain "
                    "text, numbers, true or false"
                ) from error  # fmt: skip
        # An alias is the same node again; one that contains itself would never end.
        if id(node) in self.seen:
            raise ConfigError(
                self.path, self.lines[key], f"{key}: anchors are not supported: write it out"
            )
        self.seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, f"{key}.")
        return [self.value(child, f"{key}.{i}") for i, child in enumerate(node.value)]


def _lay_over(values: dict[str, Any], key: str, value: Any) -> None:  # noqa: ANN401
    *parents, name = key.split(".")
    for parent in parents:
        child = values.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(None, None, f"command line: {key}: {parent!r} is not a section")
        values = child
    values[name] = value


def build(cls: type[T], tree: Tree, *, source: str) -> T:
    """Build a dataclass from a tree.

    Args:
        cls: A frozen keyword-only dataclass; nested sections are dataclasses too.
        tree: What ``load_tree`` returned.
        source: The field of ``cls`` that takes the tree's ``SourceLines``.

    Raises:
        ConfigError: An unknown key, a missing one, a wrong type or a value out of range.
    """
    return _Builder(tree.source).section(cls, tree.values, "", {source: tree.source})


class _Builder:
    """Checks plain values against type hints."""

    def __init__(self, source: SourceLines) -> None:
        self.source = source

    def section(
        self, cls: type[T], values: Mapping[str, Any], prefix: str, given: Mapping[str, Any]
    ) -> T:
        hints = get_type_hints(cls)
        known = [f.name for f in fields(cls) if f.name not in given]  # type: ignore[arg-type]
        for name in values:
            if name not in known:
                raise self.source.error(f"{prefix}{name}", unknown(name, known))
        for f in fields(cls):  # type: ignore[arg-type]
            if f.name in values or f.name in given:
                continue
            if f.default is MISSING and f.default_factory is MISSING:
                raise self.source.error(prefix.rstrip("."), f"the key {f.name!r} is missing")
        built = {
            name: self.value(hints[name], value, f"{prefix}{name}")
            for name, value in values.items()
        }
        try:
            return cls(**built, **given)
        except ValueError as error:
            # Sections say "name: what is wrong" or "name must be ...".
            name, _, message = str(error).partition(" ")
            name = name.rstrip(":")
            if name.split(".")[0] in known:
                raise self.source.error(f"{prefix}{name}", message) from error
            raise self.source.error(prefix.rstrip("."), str(error)) from error

    def value(self, hint: Any, value: Any, key: str) -> Any:  # noqa: ANN401 - any type hint
        origin, arguments = get_origin(hint), get_args(hint)
        if is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, dict):
                raise self.wrong(key, value, "a section of `key: value` lines")
            return self.section(hint, value, f"{key}.", {})
        if origin is tuple:
            # One value stands for a list of one: `precision: auto`.
            items = value if isinstance(value, list | tuple) else [value]
            return tuple(self.value(arguments[0], v, f"{key}.{i}") for i, v in enumerate(items))
        if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
            if not isinstance(value, dict):
                raise self.wrong(key, value, "a section of `key: value` lines")
            return {k: self.value(arguments[1], v, f"{key}.{k}") for k, v in value.items()}
        if origin is Literal:
            if value not in arguments or isinstance(value, bool):
                raise self.source.error(key, unknown(str(value), [str(a) for a in arguments]))
            return value
        if origin in (Union, UnionType):
            if value is None and NoneType in arguments:
                return None
            return self.value(next(a for a in arguments if a is not NoneType), value, key)
        return self.scalar(hint, value, key)

    def scalar(self, hint: Any, value: Any, key: str) -> Any:  # noqa: ANN401
        if hint is float and type(value) is int:
            return float(value)
        if type(value) is not hint:
            raise self.wrong(key, value, TYPE_NAMES.get(hint, getattr(hint, "__name__", hint)))
        return value

    def wrong(self, key: str, value: Any, wanted: str) -> ConfigError:  # noqa: ANN401
        return self.source.error(key, f"{value!r} is not {wanted}")


def unknown(name: str, known: Sequence[str]) -> str:
    """Say that a name is unknown, with the likeliest one meant or all there are."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known)}"
    return f"unknown: {name!r}; {hint}"
