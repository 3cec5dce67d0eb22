"""Service `superset-init`: Superset's metadata at its version, its roles, its first two users.

Runs in Superset's own environment. In this order:
  1. end at once if this version has already done its work;
  2. migrate the schema;
  3. make Superset's own permissions and roles, and role `Analyst`;
  4. make users `admin` and `analyst`, if they do not exist, with the generated passwords; 5. record that it is done.
Every step may be repeated: a run that was killed is made good by the next.
"""

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import psycopg2

HERE = Path(__file__).resolve().parent
USERS = (
    ("admin", "Admin", "SUPERSET_ADMIN_PASSWORD"),
    ("analyst", "Analyst", "SUPERSET_ANALYST_PASSWORD"),
)
# What Gamma may do that changes something of others or of its own.
CHANGES = (
    "can_write", "can_add", "can_edit", "can_delete", "can_this_form_post", "can_import",
    "can_export", "can_share", "can_tag", "can_bulk", "can_put", "can_post", "can_set_embedded",
    "can_warm_up_cache", "can_get_or_create_dataset", "can_duplicate", "can_upload",
    "can_cache_dashboard_screenshot",
)  # fmt: skip


def main() -> int:
    version = fingerprint()
    with psycopg2.connect(metadata_dsn()) as connection:
        if is_done(connection, version):
            print("the metadata is at this version", file=sys.stderr)
            return 0
    started = time.monotonic()
    from superset.app import create_app

    app = create_app()
    with app.app_context():
        migrate(app)
        make_roles(app.appbuilder)
        make_users(app.appbuilder.sm)
    with psycopg2.connect(metadata_dsn()) as connection:
        note_done(connection, version)
    print(f"made in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


def fingerprint() -> str:
    """Changes with Superset's version and with this file's work."""
    content = (HERE / "requirements.lock").read_bytes() + Path(__file__).read_bytes()
    return hashlib.sha256(content).hexdigest()


def metadata_dsn() -> str:
    return os.environ["SUPERSET_DATABASE"].replace("+psycopg2", "")


def is_done(connection: Any, version: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('headwater_init')")
        if cursor.fetchone()[0] is None:
            return False
        cursor.execute("SELECT version FROM headwater_init")
        return cursor.fetchone() == (version,)


def note_done(connection: Any, version: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS headwater_init (version text NOT NULL)")
        cursor.execute("DELETE FROM headwater_init")
        cursor.execute("INSERT INTO headwater_init VALUES (%s)", (version,))


def migrate(app: Any) -> None:
    from flask_migrate import upgrade

    import superset

    upgrade(directory=str(Path(superset.__file__).parent / "migrations"))


def make_roles(builder: Any) -> None:
    """Superset's own roles, and `Analyst`: sees everything, asks SQL Lab, changes nothing."""
    builder.add_permissions(update_perms=True)
    manager = builder.sm
    manager.sync_role_definitions()
    analyst = manager.add_role("Analyst")
    allowed = [
        permission
        for role in ("Gamma", "sql_lab")
        for permission in manager.find_role(role).permissions
        if not permission.permission.name.startswith(CHANGES)
    ]
    # Trino itself lets its user `superset` only read the lake's schemas.
    allowed.append(manager.add_permission_view_menu("all_database_access", "all_database_access"))
    analyst.permissions = list(dict.fromkeys(allowed))
    manager.session.commit()


def make_users(manager: Any) -> None:
    for name, role, variable in USERS:
        if manager.find_user(username=name) is None:
            made = manager.add_user(
                username=name,
                first_name=role,
                last_name="of this stack",
                email=f"{name}@localhost",
                role=manager.find_role(role),
                password=os.environ[variable],
            )
            if not made:
                raise SystemExit(f"Superset did not take user `{name}`: see the lines above")


if __name__ == "__main__":
    sys.exit(main())
