"""Superset's REST API, as far as dashboards as code need it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import requests

from app.errors import HeadwaterError

TIMEOUT_S = 120.0  # an import asks Trino, which may be busy
SHOWN_CHARACTERS = 600
PAGE_SIZE = 1_000


class Superset:
    """One log-in at a running Superset."""

    def __init__(self, url: str, user: str, password: str) -> None:
        """Log in.

        Raises: HeadwaterError if nothing answers or the log-in is refused.
        """
        self.url = url.rstrip("/")
        self._http = requests.Session()
        self._http.trust_env = False  # loopback: no proxy of the user's shell, no ~/.netrc
        login = {"username": user, "password": password, "provider": "db", "refresh": False}
        token = self._json("POST", "/api/v1/security/login", json=login)["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"
        csrf = self._json("GET", "/api/v1/security/csrf_token/")["result"]
        self._http.headers.update({"X-CSRFToken": csrf, "Referer": self.url})

    def import_assets(self, archive: bytes) -> None:
        """Create or update all assets of the archive, and no others."""
        bundle = {"bundle": ("assets.zip", archive, "application/zip")}
        self._call("POST", "/api/v1/assets/import/", files=bundle)

    def export_dashboards(self, ids: Sequence[int]) -> bytes:
        """Export these dashboards with all that they need, as a zip file."""
        # The API's lists are in Rison, in which a list of numbers is written !(1,2).
        listed = ",".join(map(str, ids))
        return self._call("GET", "/api/v1/dashboard/export/", params={"q": f"!({listed})"}).content

    def dashboards(self) -> list[dict[str, Any]]:
        """All dashboards: id, slug, dashboard_title, and more."""
        return self.all("/api/v1/dashboard/")

    def charts(self) -> list[dict[str, Any]]:
        """All charts: id, slice_name, datasource_id, and more."""
        return self.all("/api/v1/chart/")

    def all(self, path: str) -> list[dict[str, Any]]:
        """The resources of one kind, `PAGE_SIZE` at most."""
        query = {"q": f"(page_size:{PAGE_SIZE})"}
        return list(self._json("GET", path, params=query)["result"])

    def answer(self, path: str) -> Any:
        """The whole answer to a question that has no `result`."""
        return self._json("GET", path)

    def get(self, path: str) -> Any:
        """The `result` of one resource, such as `/api/v1/chart/7`."""
        return self._json("GET", path)["result"]

    def post(self, path: str, body: object) -> Any:
        """The answer to a posted JSON body."""
        return self._json("POST", path, json=body)

    def put(self, path: str, body: object) -> Any:
        """The answer to a changed resource."""
        return self._json("PUT", path, json=body)

    def delete(self, path: str) -> None:
        """Remove one resource."""
        self._call("DELETE", path)

    def _json(self, method: str, path: str, **options: Any) -> Any:
        return self._call(method, path, **options).json()

    def _call(self, method: str, path: str, **options: Any) -> requests.Response:
        what = f"{method} {self.url}{path}"
        try:
            answer = self._http.request(method, self.url + path, timeout=TIMEOUT_S, **options)
        except requests.RequestException as error:
            raise HeadwaterError(
                "Superset does not answer",
                detail=f"{what}: {type(error).__name__}",
                hint="is it running? see `./headwater status superset`",
            ) from error
        if not answer.ok:
            raise HeadwaterError(
                f"Superset refused {what}",
                detail=f"{answer.status_code}: {_shortened(answer)}",
                hint="read more with `./headwater logs superset`",
            )
        return answer


def _shortened(answer: requests.Response) -> str:
    """Shorten an error answer to SHOWN_CHARACTERS; its JSON nests the message in several ways."""
    try:
        text = json.dumps(answer.json())
    except ValueError:
        text = answer.text
    return text[:SHOWN_CHARACTERS]
