"""Where Maven files come from: the user's mirror where there is one, else the central registry.

In this order: `HEADWATER_MAVEN_MIRROR` (a URL, `file://` too), a `<mirror>` of `central` or `*`
in the user's Maven `settings.xml`, the registry that the `jgo` library knows. The addresses are
never written into this repository.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit
from xml.etree import ElementTree

from app.launcher.errors import HeadwaterError

MIRROR_VARIABLE = "HEADWATER_MAVEN_MIRROR"


@dataclass(frozen=True)
class Repository:
    """A Maven repository, by its address; the log-in is never shown."""

    url: str = field(repr=False)
    login: tuple[str, str] | None = field(default=None, repr=False)
    chosen_by: str = "the default registry"

    def url_of(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/{path}"

    def file_of(self, path: str) -> Path | None:
        """The file on this machine, where the repository is a `file://` one."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) / path if parts.scheme == "file" else None

    def shown(self, path: str = "") -> str:
        """The address without any password in it, for messages."""
        parts = urlsplit(self.url_of(path) if path else self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def find_repository(settings_xml: Path | None = None) -> Repository:
    """The repository to fetch from; raises HeadwaterError where a setting makes no sense."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").strip()
    if mirror:
        if urlsplit(mirror).scheme not in ("http", "https", "file"):
            raise HeadwaterError(
                f"{MIRROR_VARIABLE} is not an address of a Maven repository",
                hint="it starts with https://, http:// or file://",
            )
        return Repository(mirror, chosen_by=MIRROR_VARIABLE)
    found = _mirror_of_settings(settings_xml or Path.home() / ".m2" / "settings.xml")
    if found:
        return found
    # Here, not above: jgo takes a while to load, and only a fetch needs it.
    from jgo.constants import MAVEN_CENTRAL_URL

    return Repository(MAVEN_CENTRAL_URL)


def local_maven_folder() -> Path:
    """The user's own Maven cache; files there are used when their checksum is right."""
    own = os.environ.get("M2_REPO")
    return Path(own) if own else Path.home() / ".m2" / "repository"


def _mirror_of_settings(path: Path) -> Repository | None:
    if not path.is_file():
        return None
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise HeadwaterError(
            f"cannot read Maven's settings in {path}",
            detail=str(error),
            hint=f"mend the file, or set {MIRROR_VARIABLE}",
        ) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    for mirror in root.findall("mirrors/mirror"):
        url = (mirror.findtext("url") or "").strip()
        if url and _covers_central(mirror.findtext("mirrorOf") or ""):
            name = (mirror.findtext("id") or "").strip()
            return Repository(url, _login(root, name), chosen_by=str(path))
    return None


def _covers_central(mirror_of: str) -> bool:
    names = [name.strip() for name in mirror_of.split(",")]
    return "!central" not in names and any(n in ("central", "*", "external:*") for n in names)


def _login(settings: ElementTree.Element, name: str) -> tuple[str, str] | None:
    for server in settings.findall("servers/server"):
        if (server.findtext("id") or "").strip() == name:
            user, password = server.findtext("username"), server.findtext("password")
            if user and password:
                return user, password
    return None
