"""Finds the Maven repository to fetch from: the user's mirror, else the central registry.

In this order: `HEADWATER_MAVEN_MIRROR` (a URL, `file://` too), a `<mirror>` of `central` or `*`
in the user's Maven `settings.xml`, the registry that the `jgo` library knows. The addresses are
never written into this repository. Proxies come from the environment, else from `settings.xml`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from xml.etree import ElementTree

from app.errors import HeadwaterError

MIRROR_VARIABLE = "HEADWATER_MAVEN_MIRROR"


@dataclass(frozen=True)
class Repository:
    """A Maven repository, by its address; the log-ins are never shown.

    `proxies` are those of Maven's settings (scheme → URL), used if the environment has none.
    """

    url: str = field(repr=False)
    login: tuple[str, str] | None = field(default=None, repr=False)
    proxies: dict[str, str] = field(default_factory=dict, repr=False)
    chosen_by: str = "the default registry"

    def url_of(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/{path}"

    def file_of(self, path: str) -> Path | None:
        """The file on this machine, if the repository is a `file://` one."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) / path if parts.scheme == "file" else None

    def shown(self, path: str = "") -> str:
        """The address without any password in it, for messages."""
        parts = urlsplit(self.url_of(path) if path else self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def find_repository(settings_xml: Path | None = None) -> Repository:
    """The repository to fetch from; raises HeadwaterError if a setting makes no sense."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").strip()
    if mirror:
        if urlsplit(mirror).scheme not in ("http", "https", "file"):
            raise HeadwaterError(
                f"{MIRROR_VARIABLE} is not an address of a Maven repository",
                hint="it starts with https://, http:// or file://",
            )
        return Repository(mirror, chosen_by=MIRROR_VARIABLE)
    path = settings_xml or _home() / ".m2" / "settings.xml"
    root = _read(path)
    found = None if root is None else _mirror_of(root, chosen_by=str(path))
    if found is None:
        # Here, not above: jgo takes a while to load, and only a fetch needs it.
        from jgo.constants import MAVEN_CENTRAL_URL

        found = Repository(MAVEN_CENTRAL_URL)
    return found if root is None else replace(found, proxies=_proxies_of(root, found.url))


def local_maven_folder() -> Path:
    """The user's own Maven cache; files there are used when their checksum is right."""
    own = os.environ.get("M2_REPO")
    return Path(own) if own else _home() / ".m2" / "repository"


def _read(path: Path) -> ElementTree.Element | None:
    """Maven's settings, their names without the name space; None if there are none."""
    if not path.is_file():
        return None
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise HeadwaterError(
            f"cannot read Maven's settings in {path}",
            detail=str(error),
            hint=f"fix the file, or set {MIRROR_VARIABLE}",
        ) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _mirror_of(root: ElementTree.Element, *, chosen_by: str) -> Repository | None:
    for mirror in root.findall("mirrors/mirror"):
        url = _text(mirror, "url")
        if url and _covers_central(_text(mirror, "mirrorOf")):
            return Repository(url, _login(root, _text(mirror, "id")), chosen_by=chosen_by)
    return None


def _proxies_of(root: ElementTree.Element, url: str) -> dict[str, str]:
    """The active proxy, for both schemes; none for a host that needs none."""
    for proxy in root.findall("proxies/proxy"):
        host = _text(proxy, "host")
        if not host or _text(proxy, "active").lower() == "false":
            continue
        to = urlsplit(url).hostname or ""
        direct = _text(proxy, "nonProxyHosts").replace(",", "|").split("|")
        if any(fnmatch(to, pattern.strip().lower()) for pattern in direct):
            return {}
        user, password = _text(proxy, "username"), _text(proxy, "password")
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
        # Maven uses 8080 if no port is named.
        address = f"http://{login}{host}:{_text(proxy, 'port') or 8080}"
        return {"http": address, "https": address}
    return {}


def _text(element: ElementTree.Element, name: str) -> str:
    return (element.findtext(name) or "").strip()


def _covers_central(mirror_of: str) -> bool:
    names = [name.strip() for name in mirror_of.split(",")]
    return "!central" not in names and any(n in ("central", "*", "external:*") for n in names)


def _login(settings: ElementTree.Element, name: str) -> tuple[str, str] | None:
    for server in settings.findall("servers/server"):
        if _text(server, "id") == name:
            user, password = server.findtext("username"), server.findtext("password")
            if user and password:
                return user, password
    return None


def _home() -> Path:
    """Return the user's home folder; a missing folder for a user without one."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/nonexistent")
