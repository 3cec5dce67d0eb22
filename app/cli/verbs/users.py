"""`headwater users`: the people who may query Trino, with their roles (profile key `access`)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from app.cli.options import FORMAT_OPTION
from app.printing import Format, print_rows

if TYPE_CHECKING:
    from app.access.accounts import Users

app = typer.Typer(
    name="users",
    help='Who may ask Trino, where `access = "signed"`, and in which role.',
    no_args_is_help=True,
)
GENERATE = typer.Option(False, "--generate", help="Make a password, and show it once.")


@app.command("add")
def add(
    name: str = typer.Argument(help="Lower-case letters, digits and `_.@-`."),
    role: str = typer.Option("analyst", "--role", help="A role of access.toml."),
    generate: bool = GENERATE,
) -> None:
    """Add a person, who may sign in within two seconds.

    The password is read from the terminal, which does not show it, or from stdin.

    Examples:
      ./headwater users add ana --role analyst
      ./headwater users add ana --generate
    """
    users = _users()
    from app.access.accounts import check_name
    from app.access.roles import read_roles
    from app.environment.settings import load
    from app.errors import HeadwaterError
    from spark_streaming.contract.contract_files import near

    check_name(name)
    known = read_roles(load().home / "access.toml").roles
    if role not in known:
        raise HeadwaterError(f"there is no role `{role}`", hint=near(role, known))
    password = _password(generate)
    users.add(name, role, password)
    _record("add", name, "--role", role)
    _show(password, generate)


@app.command("remove")
def remove(name: str = typer.Argument(help="The person.")) -> None:
    """Remove a person: new questions are refused within two seconds, tables of the person's own stay.

    Examples:
      ./headwater users remove ana
    """
    _users().remove(name)
    _record("remove", name)


@app.command("passwd")
def passwd(
    name: str = typer.Argument(help="The person."),
    generate: bool = GENERATE,
) -> None:
    """Give a person another password; the old one ends within two seconds.

    Examples:
      ./headwater users passwd ana
    """
    users, password = _users(), _password(generate)
    users.set_password(name, password)
    _record("passwd", name)
    _show(password, generate)


@app.command("list")
def list_users(fmt: Format = FORMAT_OPTION) -> None:
    """List the people and their roles.

    Examples:
      ./headwater users list --format json
    """
    rows = [(name, one.role) for name, one in _users().listed().items()]
    print_rows(("name", "role"), rows, fmt)


def _users() -> Users:
    from app.access.accounts import Users
    from app.environment.settings import load
    from app.errors import HeadwaterError

    settings = load()
    if not settings.profile.signed:
        raise HeadwaterError(
            'this stack asks nobody for a password (`access = "open"`)',
            hint="start it with ./headwater up --profile profiles/signed.toml",
        )
    return Users(settings)


def _record(*words: str) -> None:
    from app.cli.verb_audit import record_verb
    from app.environment.settings import load

    record_verb(load(), f"users {words[0]}", words[1:], kind="change")


def _password(generate: bool) -> str:
    """A password that is made, typed unseen, or the first line of stdin; never a word of the command."""
    from app.access.accounts import generated_password
    from app.errors import HeadwaterError

    if generate:
        return generated_password()
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    from getpass import getpass

    password = getpass("Password: ")
    if getpass("Again: ") != password:
        raise HeadwaterError("the two passwords differ")
    return password


def _show(password: str, generate: bool) -> None:
    if generate:
        print(password)
        print("this password is not shown again", file=sys.stderr)
