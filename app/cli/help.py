"""A verb's help page: usage, what it does, options, examples and exit codes.

The text is the verb's docstring. Paragraphs are wrapped to the terminal; indented lines below
a line that ends in a colon (`Examples:`, `Exit codes:`) stay as they are.
"""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence

from app.cli.outline import HELP_NAMES, Command, Parameter

WIDTH_MAX = 100
NAMES_MAX = 28
USUAL_CODES = """Exit codes:
  0  It was done.
  1  It failed; stderr says what, what was seen and what to do.
  2  Wrong usage."""


def text_of(command: Command, path: Sequence[str]) -> str:
    """Return the help page of `command`, which the words of `path` lead to."""
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDTH_MAX)
    text = command.help
    if not command.children and "Exit codes:" not in text:
        text += f"\n\n{USUAL_CODES}"
    blocks = [_usage(command, path), *_body(text, width)]
    place = _before_examples(blocks)
    options = [(_names(one), _help(one)) for one in command.options]
    options.append((", ".join(HELP_NAMES), "Print this page."))
    blocks.insert(place, "Options:\n" + _pairs(options, width))
    if command.arguments:
        pairs = [(_argument(one), _help(one)) for one in command.arguments]
        blocks.insert(place, "Arguments:\n" + _pairs(pairs, width))
    if command.children:
        pairs = [(name, first_sentence(one.help)) for name, one in command.children.items()]
        blocks.append("Commands:\n" + _pairs(pairs, width))
    return "\n\n".join(blocks) + "\n"


def first_sentence(text: str) -> str:
    """Return a text's first sentence, which describes a verb in a list of verbs."""
    flat = " ".join(text.partition("\n\n")[0].split())
    found = re.match(r".*?[.!?](?= [A-Z]|$)", flat)
    return found[0] if found else flat


def _usage(command: Command, path: Sequence[str]) -> str:
    words = ["Usage:", *path, "[OPTIONS]"]
    words += ["COMMAND [ARGUMENTS]..."] if command.children else map(_argument, command.arguments)
    return " ".join(words)


def _body(text: str, width: int) -> list[str]:
    """Wrap the paragraphs; keep those with a heading and indented lines as they are."""
    found = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        if len(lines) > 1 and lines[0].endswith(":") and lines[1].startswith("  "):
            found.append(paragraph)
        else:
            found.append(_wrapped(" ".join(paragraph.split()), width, "  "))
    return found


def _before_examples(blocks: Sequence[str]) -> int:
    places = [i for i, one in enumerate(blocks) if one.startswith(("Example", "Exit codes:"))]
    return min(places, default=len(blocks))


def _pairs(pairs: Iterable[tuple[str, str]], width: int) -> str:
    """Format two columns, names and meanings; a long name has a line of its own."""
    pairs = list(pairs)
    column = min(max(len(name) for name, _ in pairs), NAMES_MAX, width // 3) + 4
    lines = []
    for name, text in pairs:
        meaning = _wrapped(text, width, " " * column)
        if len(name) + 4 <= column:
            lines.append(f"  {name}".ljust(column) + meaning[column:])
        else:
            lines += [f"  {name}", meaning] if text else [f"  {name}"]
    return "\n".join(lines)


def _argument(one: Parameter) -> str:
    name = one.declared.metavar or one.name.rstrip("_").upper().replace("_", "-")
    if name.startswith("["):
        return name
    many = "..." if one.many else ""
    return f"{name}{many}" if one.declared.default is ... else f"[{name}]{many}"


def _names(one: Parameter) -> str:
    names = one.declared.names or (f"--{one.name.replace('_', '-')}",)
    shown = ", ".join(sorted(names, key=lambda name: name.startswith("--")))
    return f"{shown} {one.value}".rstrip()


def _help(one: Parameter) -> str:
    default = f" [default: {one.shown_default}]" if one.shown_default else ""
    several = " May be given several times." if one.many and one.declared.option else ""
    return f"{one.declared.help}{several}{default}".strip()


def _wrapped(text: str, width: int, indent: str) -> str:
    return textwrap.fill(
        text,
        max(width, len(indent) + 20),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
