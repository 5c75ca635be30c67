"""A job's arguments on their way to JSON and back."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar, get_type_hints

import msgspec

from staffa.errors import InvalidArguments, InvalidWorker

T = TypeVar("T")

DEEPEST = 100
SMALLEST_INTEGER = -(2**63)
LARGEST_INTEGER = 2**64 - 1
SURROGATE = re.compile("[\ud800-\udfff]")
FIX = "convert it to text or a number first, or declare a type for it"


class Shape(Protocol):
    """What a worker's arguments look like in Python, and how they are kept."""

    def store(self, given: object) -> dict[str, Any]:
        """Turn what the caller gave into a JSON object. Raises `InvalidArguments`."""

    def load(self, stored: dict[str, Any]) -> Any:
        """Turn the JSON object into what `perform` sees. Raises `InvalidArguments`."""


class Untyped:
    """Arguments are JSON objects and stay so."""

    def store(self, given: object) -> dict[str, Any]:
        return json_object(given)

    def load(self, stored: dict[str, Any]) -> Any:
        return stored


class Typed:
    """Arguments are a dataclass, a msgspec Struct or a TypedDict."""

    def __init__(self, type_: type[Any]) -> None:
        self._type = type_

    def store(self, given: object) -> dict[str, Any]:
        return plain_object(msgspec.to_builtins(self._convert(_in_json(given, "args"))))

    def load(self, stored: dict[str, Any]) -> Any:
        return self._convert(stored)

    def _convert(self, given: object) -> Any:
        _refuse_unknown(given, self._known, self._type)
        return _converted(given, self._type)

    @cached_property
    def _known(self) -> frozenset[str]:
        """Read the type's keys when first needed, so that its annotations may name later classes."""
        fields: Any = getattr(msgspec.inspect.type_info(self._type), "fields", ())
        return frozenset(field.encode_name for field in fields)


class Pydantic:
    """Arguments are a pydantic model."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def store(self, given: object) -> dict[str, Any]:
        return plain_object(self._validated(given).model_dump(mode="json"))

    def load(self, stored: dict[str, Any]) -> Any:
        return self._validated(stored)

    def _validated(self, given: object) -> Any:
        try:
            return self._model.model_validate(given)
        except ValueError as error:
            raise InvalidArguments(f"{self._model.__name__}: {error}") from error


class Parameters:
    """Arguments are the parameters of a function, checked against its annotations."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._signature = inspect.signature(function)
        self._open = False
        for parameter in self._signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                raise InvalidWorker(
                    f"{function.__qualname__}: arguments are stored by name, so the parameter "
                    f"{parameter} cannot be positional only; make it an ordinary one"
                )
            self._open |= parameter.kind is parameter.VAR_KEYWORD
        self._needed = {
            name for name, each in self._signature.parameters.items() if each.default is each.empty
        }

    def bind(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Name the arguments of a call, as Python would."""
        if not args and not self._open and self._needed <= kwargs.keys() <= self._signature.parameters.keys():
            return kwargs
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArguments(f"{self._function.__qualname__}: {error}") from error
        named = dict(bound.arguments)
        for parameter in self._signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                named.update(named.pop(parameter.name, {}))
        return named

    def store(self, given: object) -> dict[str, Any]:
        named = self.bind(**_mapping(given))
        if self._open:
            return json_object(named)
        checked = _converted(named, self._struct)
        return plain_object({key: _in_json(getattr(checked, key), f"args[{key!r}]") for key in named})

    def load(self, stored: dict[str, Any]) -> dict[str, Any]:
        given = _mapping(stored)
        if self._open:
            return self.bind(**given)
        if unknown := given.keys() - self._signature.parameters.keys():
            raise InvalidArguments(
                f"{self._function.__qualname__} takes no argument {', '.join(sorted(unknown))}"
            )
        checked = _converted(given, self._struct)
        return {key: getattr(checked, key) for key in given}

    @cached_property
    def _struct(self) -> type[Any]:
        """Build the type of the parameters when first needed, so that annotations may name later classes."""
        try:
            hints = get_type_hints(self._function)
        except NameError:
            hints = {}
        fields = [
            (name, hints.get(name, Any))
            + (() if parameter.default is parameter.empty else (parameter.default,))
            for name, parameter in self._signature.parameters.items()
        ]
        struct = msgspec.defstruct(self._function.__name__, _plain_defaults(fields), kw_only=True)
        try:
            msgspec.json.Decoder(struct)
        except TypeError as error:
            raise InvalidWorker(f"{self._function.__qualname__}: {error}") from error
        return struct


def shape_of(type_: Any) -> Shape:
    """Find how arguments of a declared type are kept. Raises `InvalidWorker` for what is no such type."""
    if type_ is None:
        return Untyped()
    if hasattr(type_, "model_validate"):
        return Pydantic(type_)
    if dataclasses.is_dataclass(type_) or hasattr(type_, "__struct_fields__") or hasattr(type_, "__total__"):
        return Typed(type_)
    raise InvalidWorker(
        f"args={type_!r} is no type for arguments: give a dataclass, a msgspec Struct, a TypedDict or a pydantic model"
    )


def json_object(given: object, name: str = "args") -> dict[str, Any]:
    """Copy a value that must be a JSON object with string keys. Raises `InvalidArguments` naming the key."""
    if type(given) is dict and (not given or _is_plain_dict(given, DEEPEST)):
        return _copied_dict(given)
    return _made_plain(given, name)


def plain_object(given: object, name: str = "args") -> dict[str, Any]:
    """Return what is a JSON object already as it is; make one of the rest, as `json_object` does."""
    if type(given) is dict and _is_plain_dict(given, DEEPEST):
        return given
    return _made_plain(given, name)


def _made_plain(given: object, name: str) -> dict[str, Any]:
    return {
        _key(key, name): _plain(value, f"{name}[{key!r}]", 1) for key, value in _mapping(given, name).items()
    }


def json_value(given: object, name: str) -> Any:
    """Copy a value that must be JSON; dataclasses, Structs and pydantic models in it are written as such.

    Raises `InvalidArguments` naming what cannot be kept.
    """
    return _plain(undeclared(given, name), name, 0)


def undeclared(value: object, name: str, depth: int = 0) -> Any:
    """Write values of declared types as arguments of these types are written."""
    kind = type(value)
    if depth > DEEPEST:
        return value  # which is refused by its depth
    if hasattr(kind, "model_dump"):
        return value.model_dump(mode="json")  # type: ignore[attr-defined]
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__struct_fields__"):
        return _in_json(value, name)
    if isinstance(value, list | tuple):
        return [undeclared(each, name, depth + 1) for each in value]
    if isinstance(value, Mapping):
        return {key: undeclared(each, name, depth + 1) for key, each in value.items()}
    return value


# What needs no conversion, as most arguments; told fast


def is_plain_text(value: str, _: int = 0) -> bool:
    """Tell whether databases can hold a text: no NUL, no lone surrogates."""
    return "\0" not in value and (value.isascii() or not SURROGATE.search(value))


def _is_plain_int(value: int, _: int) -> bool:
    return SMALLEST_INTEGER <= value <= LARGEST_INTEGER


def _is_plain_float(value: float, _: int) -> bool:
    return math.isfinite(value)


def _is_plain_list(value: list[Any], levels: int) -> bool:
    if not levels:
        return False
    levels -= 1
    for each in value:  # noqa: SIM110 - all() takes twice as long
        if not _CHECKS.get(type(each), _no)(each, levels):
            return False
    return True


def _is_plain_dict(value: dict[Any, Any], levels: int) -> bool:
    if not levels:
        return False
    levels -= 1
    for key, each in value.items():
        if type(key) is not str or not key.isascii() or "\0" in key:
            return False
        if not _CHECKS.get(type(each), _no)(each, levels):
            return False
    return True


def _yes(_: Any, __: int) -> bool:
    return True


def _no(_: Any, __: int) -> bool:
    return False


_CHECKS: dict[type, Callable[[Any, int], bool]] = {
    str: is_plain_text,
    int: _is_plain_int,
    float: _is_plain_float,
    bool: _yes,
    type(None): _yes,
    list: _is_plain_list,
    dict: _is_plain_dict,
}


# Copies of what is plain, so that nobody else has its lists and objects


def _copied_dict(given: dict[str, Any]) -> dict[str, Any]:
    copied = given.copy()
    for key, each in given.items():
        if type(each) in _COPIES:
            copied[key] = _COPIES[type(each)](each)
    return copied


def _copied_list(given: list[Any]) -> list[Any]:
    return [each if type(each) not in _COPIES else _COPIES[type(each)](each) for each in given]


_COPIES: dict[type, Callable[[Any], Any]] = {dict: _copied_dict, list: _copied_list}


# The rest, one kind after the other


def _mapping(given: object, name: str = "args") -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidArguments(f"{name} must be an object with string keys, not {type(given).__name__}")
    return given


def _plain(value: object, path: str, depth: int) -> Any:  # noqa: C901, PLR0911 - one case for each kind of value
    """Copy what JSON can hold faithfully; refuse the rest by name."""
    if depth > DEEPEST:
        raise InvalidArguments(f"{path} is nested deeper than {DEEPEST} levels")
    match value:
        case None | bool():
            return value
        case Enum():
            return _plain(value.value, path, depth + 1)
        case str():
            return _text(value, path)
        case int():
            if not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
                raise InvalidArguments(f"{path} does not fit 64 bits: keep it as text")
            return int(value)
        case float():
            if not math.isfinite(value):
                raise InvalidArguments(f"{path} is {value}, which JSON cannot hold: use None or text")
            return float(value)
        case list() | tuple():
            return [_plain(each, f"{path}[{index}]", depth + 1) for index, each in enumerate(value)]
        case Mapping():
            return {
                _key(key, path): _plain(each, f"{path}[{key!r}]", depth + 1) for key, each in value.items()
            }
    raise InvalidArguments(f"{path} is a {type(value).__name__}, which JSON cannot hold: {FIX}")


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise InvalidArguments(f"{path} has the key {key!r} of type {type(key).__name__}: JSON keys are text")
    return _text(key, f"the key {key!r} of {path}")


def _text(value: str, path: str) -> str:
    if "\0" in value:
        raise InvalidArguments(f"{path} contains a NUL character, which databases cannot hold: remove it")
    if not value.isascii() and SURROGATE.search(value):
        raise InvalidArguments(
            f"{path} contains a lone surrogate, which is no text: decode it properly first"
        )
    return str(value)


def _converted(given: object, type_: type[T]) -> T:
    try:
        return msgspec.convert(given, type_)
    except msgspec.ValidationError as error:
        raise InvalidArguments(f"args do not fit {type_.__name__}: {error}") from error


def _in_json(value: object, path: str) -> object:
    """Write a value of a type that msgspec knows as JSON does; instances are not trusted to fit their type."""
    try:
        return msgspec.to_builtins(value)
    except TypeError as error:
        raise InvalidArguments(f"{path} holds what JSON cannot: {error}") from error


def _refuse_unknown(given: object, known: frozenset[str], type_: type[Any]) -> None:
    """Refuse keys the type does not have, which msgspec would drop in silence."""
    if isinstance(given, Mapping) and (unknown := sorted(map(str, given.keys() - known))):
        raise InvalidArguments(f"args do not fit {type_.__name__}: it has no {', '.join(unknown)}")


def _plain_defaults(fields: list[Any]) -> list[Any]:
    """Wrap defaults that msgspec would refuse to share, such as a filled list."""
    return [
        (name, hint, msgspec.field(default_factory=partial(_same, *rest))) if rest else (name, hint)
        for name, hint, *rest in fields
    ]


def _same(value: object) -> object:
    return value
