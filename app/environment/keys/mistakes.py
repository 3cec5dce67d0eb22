"""Mistakes in a profile, each with its line and a suggestion."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError


def mistakes(error: ValidationError, origin: str, text: str, known: Iterable[str]) -> str:
    """Return each mistake with its line in `origin`, and a hint; `known` are the keys that there are."""
    # Imported here, because every command imports this module, and few need it.
    from spark_streaming.contract.contract_files import near
    from spark_streaming.contract.toml_lines import key_lines, line_of

    places = key_lines(text)
    lines, hints = [], []
    for problem in error.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in problem["loc"])
        here = problem["loc"][:1] if problem["loc"][:1] in places else ()
        where = f"line {line_of(places, problem['loc'])} of {origin}" if here else origin
        what = f"setting `{key}`: {problem['msg']}" if key else problem["msg"]
        if problem["type"] == "extra_forbidden":
            what = f"setting `{key}` is unknown"
            hints.append(near(key, known))
        lines.append(f"{what} (in {where})")
    hint = "; ".join(hints) or "docs/reference/settings.md describes each setting"
    return "\n".join(lines) + f"\nhint: {hint}"
