"""Writes plain values as YAML: blocks, with every text in double quotes."""

from __future__ import annotations

import json
from collections.abc import Iterator

Value = object


def dump(value: Value) -> str:
    """Write `value` (dict, list, str, number, bool, None) as YAML; texts are quoted as in JSON."""
    return "\n".join(_lines(value, "")) + "\n"


def _lines(value: Value, indent: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _entry(f"{indent}{key}:", inner, indent)
    elif isinstance(value, list):
        for inner in value:
            block = list(_lines(inner, f"{indent}  "))
            if isinstance(inner, (dict, list)) and inner:
                yield f"{indent}- {block[0].lstrip()}"
                yield from block[1:]
            else:
                yield f"{indent}- {_scalar(inner)}"
    else:
        yield f"{indent}{_scalar(value)}"


def _entry(head: str, inner: Value, indent: str) -> Iterator[str]:
    if isinstance(inner, (dict, list)) and inner:
        yield head
        yield from _lines(inner, f"{indent}  ")
    else:
        yield f"{head} {_scalar(inner)}"


def _scalar(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False)
