"""Values in rendered files are read back unchanged by each format's own reader."""

from __future__ import annotations

import pytest

from app.services.quoting import quoting

PATHS = ["/home/o'brien/a b", "/Ünï/cödé", "/日本/🎬", "C:\\x"]


def as_java_reads(text: str) -> str:
    """Parse a value like `java.util.Properties`: escapes of UTF-16 units and of backslashes."""
    text.encode("ascii")  # otherwise it would depend on the reader's charset
    raw = text.replace("\\\\", "\\u005c").encode().decode("unicode_escape")
    return raw.encode("utf-16-be", "surrogatepass").decode("utf-16-be")


@pytest.mark.parametrize("path", PATHS)
def test_java_reads_a_property_as_it_was_whatever_charset_it_opens_the_file_with(path: str) -> None:
    assert as_java_reads(quoting("worker.properties", lambda name: path)("run")) == path


@pytest.mark.parametrize("path", PATHS)
def test_a_text_of_postgresql_conf_ends_where_it_should(path: str) -> None:
    written = quoting("postgresql.conf", lambda name: path)("run")
    assert "'" not in written.replace("''", "")
    assert written.replace("''", "'") == path


def test_other_files_get_values_as_they_are() -> None:
    assert quoting("rules.yml", lambda name: "/Ü'")("run") == "/Ü'"
