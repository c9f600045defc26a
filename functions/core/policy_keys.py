"""What is known of a key of policy.yaml: how its value is read, within which bounds, and what it
means.

A field of Policy, Watch or Rule is declared by it (`policy_key`). The check of unknown
keys follows from it here, functions/policy.schema.json and docs/policy.md in
functions/ops/reference, so that each key is stated once."""

from collections.abc import Callable
from typing import Any, ClassVar, dataclass_transform

from functions.core.record import Record
from functions.core.settings import SECRET_VARIABLES
from functions.core.yaml_lines import Value

REQUIRED = object()
"""The default of a field that must be stated."""


class Kind:
    """A kind of value: how it is read, and the JSON Schema by which an editor checks it."""

    def __init__(self, read: Callable[[Value], Any], schema: dict[str, Any]) -> None:
        self.read = read
        self.schema = schema


def whole(least: int, most: int) -> Kind:
    bounds = {"type": "integer", "minimum": least, "maximum": most}
    return Kind(lambda value: value.integer(least, most), bounds)


def number(least: float, most: float) -> Kind:
    bounds = {"type": "number", "minimum": least, "maximum": most}
    return Kind(lambda value: value.number(least, most), bounds)


def choice(*choices: str) -> Kind:
    return Kind(lambda value: value.choice(*choices), {"enum": list(choices)})


def by_name(kind: Kind) -> Kind:
    """A mapping whose names are free, such as those of columns."""
    return Kind(
        lambda value: {name: kind.read(inner) for name, inner in value.items()},
        {"type": "object", "additionalProperties": kind.schema},
    )


def read_later(schema: dict[str, Any]) -> Kind:
    """A value that the caller of Mapping.read reads itself, since it needs more than the value."""
    return Kind(lambda value: value, schema)


TIME = Kind(Value.seconds, {"$ref": "#/$defs/time"})
SIZE = Kind(Value.size, {"$ref": "#/$defs/size"})
TEXT = Kind(Value.text, {"type": "string"})
NAMES = Kind(Value.names, {"$ref": "#/$defs/names"})
WORDS = Kind(Value.texts, {"$ref": "#/$defs/words"})
FLAG = Kind(Value.flag, {"type": "boolean"})
SECRETS = Kind(
    lambda value: value.some_of(*sorted(SECRET_VARIABLES)),
    {"type": "array", "items": {"enum": sorted(SECRET_VARIABLES)}},
)


class Mapping:
    """A mapping whose keys are fixed. A value of the kind `single` may stand in place of it; each
    key then has that value."""

    def __init__(self, keys: "dict[str, Key]", single: Kind | None = None) -> None:
        self.keys = keys
        self.single = single

    def read(self, value: Value, *, whole: bool = True) -> dict[str, Any]:
        """The values by attribute. Raises PolicyError for a key that is not known, and for one that
        is required and missing unless `whole` is false."""
        if self.single and not value.is_mapping:
            single = self.single.read(value)
            return {key.attribute or name: single for name, key in self.keys.items()}
        present = value.only(*self.keys)
        attributes: dict[str, Any] = {}
        for name, key in self.keys.items():
            if name in present:
                result = key.kind.read(present[name])
                if isinstance(key.kind, Section):
                    attributes |= result
                else:
                    attributes[key.attribute or name] = result
            elif key.required and whole:
                value.lacks(name)
        return attributes


class Section(Mapping):
    """A mapping in the file whose keys are fields of the record around it."""


class Key:
    """A key of a mapping. Its value goes into the field `attribute`, by default the one of the
    key's own name."""

    def __init__(
        self, kind: Kind | Mapping, meaning: str, attribute: str = "", *, required: bool = False
    ) -> None:
        self.kind = kind
        self.meaning = meaning
        self.attribute = attribute
        self.required = required


def same_kind(
    kind: Kind, meanings: dict[Any, str], others: "dict[str, Key] | None" = None
) -> Mapping:
    """A mapping of optional keys that all have values of one kind, except the `others`."""
    return Mapping(
        {name: Key(kind, meaning) for name, meaning in meanings.items()} | (others or {})
    )


class PolicyKey:
    """How a field is read: from the key `at`, a path such as `sweep.every`."""

    def __init__(
        self, kind: Kind | Mapping, meaning: str, at: str, default: Any, *, optional: bool
    ) -> None:
        self.kind = kind
        self.meaning = meaning
        self.at = at
        self.default = default
        self.optional = optional


def policy_key(
    kind: Kind | Mapping,
    meaning: str,
    at: str = "",
    *,
    default: Any = REQUIRED,
    optional: bool = False,
) -> Any:
    """A field that is read from the key `at`, such as `sweep.every`; by default from the key of its
    own name. The key is required unless the field has a default; within a section that is there,
    unless it is `optional`."""
    return PolicyKey(kind, meaning, at, default, optional=optional)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(policy_key,))
class PolicyRecord(Record):
    """A record whose fields are read from the policy."""

    policy_keys: ClassVar[dict[str, PolicyKey]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        declared = {name: vars(cls).get(name) for name in cls.__annotations__}
        cls.policy_keys = {
            name: key for name, key in declared.items() if isinstance(key, PolicyKey)
        }
        for name, key in cls.policy_keys.items():
            if key.default is REQUIRED:
                delattr(cls, name)
            else:
                setattr(cls, name, key.default)


def mapping_of(
    record: type[PolicyRecord], sections: dict[str, str], singles: dict[str, Kind] | None = None
) -> Mapping:
    """The keys from which the fields of a record are read, in their order. Within a section a key
    is required unless it is `optional`. `sections` says what each section means, by its path, such
    as `sweep.mass_expiry`; `singles` names the kind of a value that may stand in place of a
    section."""
    root = Section({})
    for field, key in record.policy_keys.items():
        required = key.default is REQUIRED
        *path, name = (key.at or field).split(".")
        is_required_here = required or (bool(path) and not key.optional)
        mapping = root
        for depth, part in enumerate(path, 1):
            at = ".".join(path[:depth])
            if part not in mapping.keys:
                section = Section({}, (singles or {}).get(at))
                mapping.keys[part] = Key(section, sections[at], required=required)
            inner = mapping.keys[part].kind
            assert isinstance(inner, Section)
            mapping = inner
        mapping.keys[name] = Key(
            key.kind, key.meaning, field, required=required or is_required_here
        )
    return root
