"""Superset's settings; read by Superset itself, from the Python path of its services.

Secrets and addresses come from the environment that `service.toml` gives.
"""

import copy
import os
import warnings
from typing import Any

from sqlalchemy.exc import SAWarning
from superset.config import TALISMAN_CONFIG as STOCK_TALISMAN_CONFIG
from superset.utils.log import DBEventLogger

APP_NAME = "Headwater"
SQLALCHEMY_DATABASE_URI = os.environ["SUPERSET_DATABASE"]
SECRET_KEY = os.environ["SUPERSET_SECRET_KEY"]

# Few connections: one process with six threads.
SQLALCHEMY_ENGINE_OPTIONS = {"pool_size": 6, "max_overflow": 4, "pool_pre_ping": True}

# A chart shows Trino's current answer: no answer is cached. (The state of a dashboard's filters and of an open chart
# editor is in the metadata, as by default.)
CACHE_CONFIG = {"CACHE_TYPE": "NullCache"}
DATA_CACHE_CONFIG = {"CACHE_TYPE": "NullCache"}
THUMBNAIL_CACHE_CONFIG = {"CACHE_TYPE": "NullCache"}
CACHE_DEFAULT_TIMEOUT = -1

# Limits on one question: rows in a chart and in SQL Lab, and how long anybody waits.
ROW_LIMIT = 10_000
SQL_MAX_ROW = 100_000
DEFAULT_SQLLAB_LIMIT = 1_000
SUPERSET_WEBSERVER_TIMEOUT = 120
SQLLAB_TIMEOUT = 120

# Refreshing is for seeing changes: the shortest interval of our dashboards is ten seconds.
SUPERSET_DASHBOARD_PERIODICAL_REFRESH_LIMIT = 5
SUPERSET_DASHBOARD_PERIODICAL_REFRESH_WARNING_MESSAGE = None

# Nobody sees anything without logging in; `README.md` says how to open it.
AUTH_ROLE_PUBLIC = "Public"
PUBLIC_ROLE_LIKE = None

# It listens on loopback, without TLS.
SESSION_COOKIE_SECURE = False
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True

# Pages take nothing from other hosts: no fonts, no maps, no picture that counts installations.
TALISMAN_CONFIG = copy.deepcopy(STOCK_TALISMAN_CONFIG)
TALISMAN_CONFIG["content_security_policy"].update(
    {
        "img-src": ["'self'", "blob:", "data:"],
        "connect-src": ["'self'"],
        "style-src": ["'self'", "'unsafe-inline'"],
        "font-src": ["'self'"],
    }
)

# Mail and scheduled reports need workers and a broker, which this stack does not run: alerts on
# data are Grafana's and Prometheus' part.
FEATURE_FLAGS = {"ALERT_REPORTS": False, "DRILL_BY": True, "DRILL_TO_DETAIL": True}

LOG_LEVEL = "WARNING"
# Its own import is written in a way that SQLAlchemy warns of, twice a dataset.
warnings.filterwarnings("ignore", category=SAWarning)


class OpenedLogger(DBEventLogger):
    """Logs opened and changed objects, which Superset's start page shows.

    Not every chart's question: a dashboard that refreshes every ten seconds would write a row
    for each chart each time, for ever.
    """

    KEPT = frozenset({"dashboard", "explore", "explore_json", "log", "sqllab", "welcome"})

    def log(self, user_id: Any, action: str, *arguments: Any, **named: Any) -> None:
        if action in self.KEPT or action.rpartition(".")[2] in ("post", "put", "delete"):
            super().log(user_id, action, *arguments, **named)


EVENT_LOGGER = OpenedLogger()


def FLASK_APP_MUTATOR(_: Any) -> None:
    """A question's own LIMIT counts in SQL Lab.

    Superset 6.1 notes it in one session, and reads it in another before the first has committed
    (its issue 40070): `LIMIT 10` gave as many rows as the page's own limit allows.
    """
    from superset.commands.sql_lab.execute import ExecuteSqlCommand

    from superset import db

    note = ExecuteSqlCommand._set_query_limit

    def note_and_commit(command: Any, rendered_query: str) -> None:
        note(command, rendered_query)
        db.session.commit()

    ExecuteSqlCommand._set_query_limit = note_and_commit
