"""The reference of the command line, from the commands' own help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from app.cli.main import app
from app.docs.markdown import code, page, table

PROGRAM = "./headwater"
_INTRODUCTION = """
`./headwater COMMAND`, from any folder. Data goes to stdout; progress and errors go to stderr.
Each command explains itself with `--help`; this page is that help. Where a command names no exit codes, they
are 0: done; 1: failed, and stderr says what, what was seen and what to do; 2: wrong usage; 130: Ctrl-C.
"""
# Where a command is explained at length.
_MORE = {
    "up": "../operations/index.md",
    "demo": "../quick-start.md",
    "urls": "../../app/page/README.md",
    "sql": "../../app/query/README.md",
    "watch": "../../app/watch/README.md",
    "verify": "../../app/verify/README.md",
    "rebuild": "../../app/rebuild/README.md",
    "erase": "../../app/erase/README.md",
    "bronze compact": "../../app/bronze/README.md",
    "trace": "../../app/trace/README.md",
    "preflight": "../your-database.md",
    "detach": "../../debezium/README.md#your-own-database",
    "recover": "../../debezium/README.md#when-the-stream-cannot-go-on",
    "resync": "../../debezium/README.md#resync",
    "read": "../../app/readers/README.md",
    "size": "../scale.md",
    "screenshots": "../../app/page/README.md",
    "superset login": "../../superset/README.md",
    "test": "../../tests/README.md",
    "bench": "../../tests/bench/README.md",
    "fault": "../../tests/README.md",
    "contract init": "../../spark_streaming/contracts/README.md",
    "streams list": "../../app/intake/README.md",
    "job check": "../../app/jobs/README.md",
    "job run": "../../app/jobs/dagster/README.md",
    "job published": "../../app/serving/README.md",
    "quarantine replay": "../../spark_streaming/contracts/README.md",
}
_KINDS = {"int": "N", "int range": "N", "float": "N", "float range": "N", "path": "PATH"}
# Lines of help: indented text, an example, an exit code.
_LISTED = re.compile(rf"  |{re.escape(PROGRAM)}\b|\d+  |eval ")
_NOT_SHOWN = ("--help", "--install-completion", "--show-completion")


def commands_page() -> str:
    """Write the page: every command's purpose, usage, arguments and options."""
    root = typer.main.get_command(app)
    found = list(_commands(root, ""))
    listed = table(
        ("command", "what it does"),
        ((f"[`{name}`](#{anchor(name)})", _first_sentence(command)) for name, command in found),
    )
    everywhere = table(("option", "what it does"), _parameters(root, PROGRAM))
    parts = [listed, "## Everywhere", everywhere]
    for name, command in found:
        parts += _chapter(name, command)
    return page("Commands", _INTRODUCTION, *parts)


def anchor(name: str) -> str:
    """Return the anchor of a command's chapter."""
    return name.replace(" ", "-")


def _commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield full name and command, without the groups themselves, in the order of the help."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _chapter(name: str, command: Any) -> Iterator[str]:
    program = f"{PROGRAM} {name}"
    usage = command.get_usage(command.context_class(command, info_name=program))
    yield f"## {name}"
    yield "```text\n" + _plain_usage(usage) + "\n```"
    text, *rest = re.split(
        r"^(?=Examples?:$|Exit codes:$)", inspect.cleandoc(command.help or ""), flags=re.M
    )
    yield _text(text)
    if rows := list(_parameters(command, program)):
        yield table(("argument or option", "what it does"), rows)
    for part in rest:
        head, _, lines = part.partition("\n")
        yield f"**{head.rstrip(':')}**"
        yield _text(lines.strip("\n"))
    if command.epilog:
        yield _text(command.epilog)
    if name in _MORE:
        yield f"[More on `{name}`]({_MORE[name]})"


def _plain_usage(usage: str) -> str:
    """Rewrite the usage line for this page: `[SERVICE…]` for any number of arguments."""
    line = " ".join(usage.removeprefix("Usage: ").split())
    line = re.sub(
        r"\[+\{?(\w+)\}?(?:\](?:\.\.\.))+(?:\.\.\.)?", lambda m: f"[{m[1].upper()}…]", line
    )
    line = re.sub(r"\{(\w+)\}\.\.\.", lambda m: f"{m[1].upper()}…", line)
    return re.sub(r"\{(\w+)\}|\[([a-z_]+)\]", _in_capitals, line)


def _in_capitals(match: re.Match[str]) -> str:
    return match[1].upper() if match[1] else f"[{match[2].upper()}]"


def _parameters(command: Any, program: str) -> Iterator[tuple[str, str]]:
    context = command.context_class(command, info_name=program)
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or any(name in parameter.opts for name in _NOT_SHOWN):
            continue
        name, choices = _spelled(parameter, record[0])
        yield code(name), _escaped(record[1]) + (f" One of {choices}." if choices else "")


def _spelled(parameter: Any, shown: str) -> tuple[str, str]:
    """Return a parameter as a user types it, with its choices if it has any."""
    plain, _, kind = shown.partition(" <")
    kind = kind.rstrip(">")
    many = "…" if kind.startswith("list[") or parameter.nargs == -1 else ""
    if parameter.param_type_name == "argument":
        name = (parameter.metavar or parameter.name).strip("[]{}.").upper()
        return f"{name}{many}", ""
    if not kind:
        return plain, ""
    choices = ", ".join(code(each) for each in kind.split("|")) if "|" in kind else ""
    word = _KINDS.get(kind.removeprefix("list[").rstrip("]"), plain.rsplit("--")[-1].upper())
    return f"{plain} {word}{many}", choices


def _first_sentence(command: Any) -> str:
    first = inspect.cleandoc(command.help or "").split("\n\n")[0]
    return _escaped(re.split(r"(?<=\.)\s", " ".join(first.split()))[0])


def _text(text: str) -> str:
    """Turn help into Markdown: an indented block, or an example, becomes a code block."""
    parts = []
    for part in re.split(r"\n\s*\n", inspect.cleandoc(text.replace("\b", ""))):
        lines = part.strip("\n").splitlines()
        is_listing = all(_LISTED.match(line) for line in lines)
        parts.append(
            "```text\n" + inspect.cleandoc("\n" + "\n".join(lines)) + "\n```"
            if lines and is_listing
            else _escaped("\n".join(lines))
        )
    return "\n\n".join(parts)


def _escaped(text: str) -> str:
    """Escape characters outside of code that Markdown would read as HTML, a link or emphasis."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece
        if piece.startswith("`")
        else re.sub(r"([*_\[\]])", r"\\\1", piece).replace("<", "&lt;")
        for piece in pieces
    )
