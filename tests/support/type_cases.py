"""The tested values of each Postgres type, their form in silver and Trino, and what is lost."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

SHOWN_MAX = 34
AS_TEXT = object()  # in Trino: the column's text as the source prints it
UTC = dt.timezone.utc
NAN, INFINITY = float("nan"), float("inf")


@dataclass(frozen=True)
class Value:
    """One value: `text` in Postgres' form, `trino` as Trino's Python client returns it.

    `server` is the first major version that accepts it.
    """

    text: str
    trino: Any = AS_TEXT
    shown: str = ""
    server: int = 0

    @property
    def label(self) -> str:
        """The value in the documentation, shortened if it is long."""
        if self.shown:
            return self.shown
        text = self.text if len(self.text) <= SHOWN_MAX else f"{self.text[:SHOWN_MAX]}…"
        return text.replace("\n", "\\n").replace("\t", "\\t") or "(empty)"


@dataclass(frozen=True, eq=False)
class Type:
    """One type of the matrix.

    Args:
        ddl: the type in SQL.
        silver, trino: the column's type there.
        held: values that come back unchanged, or as `loses` describes.
        refused: values that silver's column cannot hold; such rows go to quarantine.
        snapshot_refused: values that only a snapshot's reader cannot distinguish from others.
        loses: the loss or change of the held values.
        extension: required in the server; server: the first major version with the type.
        tried: false if the embedded server lacks the extension, so that the test leaves the type out.
    """

    ddl: str
    silver: str
    trino: str
    held: tuple[Value, ...]
    refused: tuple[str, ...] = ()
    snapshot_refused: tuple[str, ...] = ()
    loses: str = ""
    extension: str = ""
    server: int = 0
    tried: bool = True

    @property
    def column(self) -> str:
        """The name of its column in the matrix's tables."""
        plain = re.sub(r"\W+", "_", self.ddl.replace("[]", " array").replace('"', " one ")).strip(
            "_"
        )
        return f"c_{plain}"


def texts(*values: str | Value) -> tuple[Value, ...]:
    """Values that Trino shows in the source's own text."""
    return tuple(value if isinstance(value, Value) else Value(value) for value in values)


def exact(*values: tuple[str, Any]) -> tuple[Value, ...]:
    """Values, each with the result of Trino's client."""
    return tuple(Value(text, expected) for text, expected in values)


def _text(ddl: str, *values: str | Value, **more: Any) -> Type:
    return Type(ddl, "string", "varchar", texts(*values), **more)


def _array(ddl: str, silver: str, trino: str, *values: tuple[str, Any], **more: Any) -> Type:
    refused = more.pop("refused", ())
    return Type(f"{ddl}[]", f"array<{silver}>", f"array({trino})", exact(*values), refused, **more)


def _digits(count: int) -> str:
    return ("1234567890" * (count // 10 + 1))[:count]


def _at(*parts: int, zone: dt.tzinfo | None = None) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=zone)  # type: ignore[arg-type, misc]


DIGITS_1000 = Value(_digits(1000), shown="1,000 digits")
FRACTION_1000 = Value("-0." + "0" * 999 + "1", shown="1,000 digits behind the point")
DATES_REFUSED = ("infinity", "-infinity", "0044-03-15 BC", "4713-01-01 BC", "10000-01-01")
TIMES_REFUSED = tuple(
    f"{day} 12:34:56.789012" for day in ("10000-01-01", "0044-03-15", "4713-12-31")
)
TIMES_REFUSED = ("infinity", "-infinity", TIMES_REFUSED[0], *(f"{t} BC" for t in TIMES_REFUSED[1:]))
LARGE_TIME = "294276-12-31 23:59:59.999999"

NUMBERS = (
    Type("boolean", "boolean", "boolean", exact(("true", True), ("false", False))),
    Type("smallint", "short", "smallint", exact(("-32768", -(2**15)), ("32767", 2**15 - 1))),
    Type("integer", "integer", "integer", exact(("-2147483648", -(2**31)), ("2147483647", 2**31 - 1))),
    Type(
        "bigint", "long", "bigint",
        exact(("-9223372036854775808", -(2**63)), ("9223372036854775807", 2**63 - 1)),
    ),
    Type("oid", "long", "bigint", exact(("0", 0), ("4294967295", 2**32 - 1))),
    Type(
        "numeric", "string", "varchar",
        (DIGITS_1000, FRACTION_1000, *texts("NaN", "-0.000", "1.50"),
         Value("Infinity", shown="Infinity (14)", server=14),
         Value("-Infinity", shown="-Infinity (14)", server=14)),
        loses="a number's type: it is text",
    ),
    Type(
        "numeric(1000,10)", "string", "varchar",
        (Value(_digits(990) + ".0123456789", shown="1,000 digits"), *texts("NaN", "0.0000000000")),
        loses="a number's type: it is text (beyond 38 digits)",
    ),
    Type(
        "numeric(10,2)", "decimal(10,2)", "decimal(10,2)",
        exact(("-99999999.99", Decimal("-99999999.99")), ("0.01", Decimal("0.01"))), ("NaN",),
    ),
    Type(
        "numeric(38,9)", "decimal(38,9)", "decimal(38,9)",
        exact(("99999999999999999999999999999.999999999", Decimal("9" * 29 + "." + "9" * 9))), ("NaN",),
    ),
    Type("numeric(2,5)", "decimal(5,5)", "decimal(5,5)", exact(("-0.00099", Decimal("-0.00099"))), server=15),
    Type(
        "numeric(5,-2)", "decimal(7,0)", "decimal(7,0)",
        exact(("9999949", Decimal(9999900)), ("-100", Decimal(-100))), ("NaN",), server=15,
    ),
    Type(
        "real", "float", "real",
        exact(("NaN", NAN), ("Infinity", INFINITY), ("-Infinity", -INFINITY), ("-0", -0.0),
              ("1e-45", 1.4e-45), ("3.4028235e38", 3.4028235e38)),
    ),
    Type(
        "double precision", "double", "double",
        exact(("NaN", NAN), ("Infinity", INFINITY), ("-Infinity", -INFINITY), ("-0", -0.0),
              ("5e-324", 5e-324), ("1.7976931348623157e308", 1.7976931348623157e308)),
    ),
    Type(
        "money", "string", "varchar",
        exact(("-92233720368547758.08", "-92233720368547758.08"), ("1234.50", "1234.50")),
        loses="the currency's sign: it is a number's text",
    ),
)  # fmt: skip

TEXTS = (
    _text("text", "", "null", "línea\n\t\"'\\ 🎬", "{\"b64\": 1}"),
    _text("varchar(20)", "", "Ærø  "),
    _text("varchar", "x" * 100),
    Type(
        "char(5)", "string", "varchar", exact(("ab", "ab   "), ("", "     ")),
        loses="nothing; the blanks that pad it are kept",
    ),
    _text('"char"', "x", ""),
    _text("name", "n" * 63, ""),
    _text("uuid", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    Type(
        "bytea", "binary", "varbinary",
        (Value("", b""), Value("\\x00ff10", b"\x00\xff\x10"), *exact(("\\x" + "5c" * 40, b"\\" * 40))),
    ),
    _text("json", "null", '{"a":1,  "a":2}', '"\\u0000"', '{"b":1e400,"a":[]}', " [1.0 , null ] "),
    _text("jsonb", "null", '{"a": [1.0, null]}', '{"n": ' + _digits(1000) + "}", '""'),
    _text("jsonpath", '$."a"[*] ? (@ > 1)'),
    _text("xml", "<a>x &amp; y</a>", "", "<!-- c --><b/>"),
    _text("tsvector", "a:1A fat:2B,4C cat", "'it''s':1", ""),
    _text("tsquery", "fat & !(cat | rat:AB) <-> dog", ""),
)  # fmt: skip

TIMES = (
    Type(
        "date", "date", "date",
        exact(("0001-01-01", dt.date(1, 1, 1)), ("9999-12-31", dt.date(9999, 12, 31)),
              ("1582-10-04", dt.date(1582, 10, 4)), ("2024-02-29", dt.date(2024, 2, 29))),
        (*DATES_REFUSED, "5874897-12-31"), ("1582-10-10", "1582-10-20"),
        loses="1582-10-05 to 1582-10-24 as a snapshot reads them: two days for one, so such rows "
        "go to quarantine",
    ),
    _text("time", "00:00:00", "24:00:00", "23:59:59.999999", loses="a time's type: it is text"),
    _text("time(3)", "01:02:03.12", loses="a time's type: it is text"),
    _text("timetz", "24:00:00-15:59", "00:00:00+15:59", "12:00:00.000001+05:30",
          loses="a time's type: it is text"),
    Type(
        "timestamp", "timestamp_ntz", "timestamp(6)",
        exact(("0001-01-01 00:00:00", _at(1, 1, 1)),
              ("9999-12-31 23:59:59.999999", _at(9999, 12, 31, 23, 59, 59, 999999)),
              ("1582-10-10 12:00:00", _at(1582, 10, 10, 12)),
              ("1969-12-31 23:59:59.999999", _at(1969, 12, 31, 23, 59, 59, 999999))),
        (*TIMES_REFUSED, LARGE_TIME),
    ),
    Type("timestamp(0)", "timestamp_ntz", "timestamp(6)",
         exact(("2026-03-29 02:30:00", _at(2026, 3, 29, 2, 30)))),
    Type(
        "timestamptz", "timestamp", "timestamp(3) with time zone",
        exact(("0001-01-01 00:00:00+00", _at(1, 1, 1, zone=UTC)),
              ("9999-12-31 23:59:59.999+00", _at(9999, 12, 31, 23, 59, 59, 999000, zone=UTC)),
              ("1582-10-10 12:00:00+00", _at(1582, 10, 10, 12, zone=UTC)),
              ("2026-03-29 02:30:00.123+01", _at(2026, 3, 29, 1, 30, 0, 123000, zone=UTC)),
              ("1969-12-31 23:59:59.123999+00", _at(1969, 12, 31, 23, 59, 59, 124000, zone=UTC))),
        (*(t if "inf" in t else t.replace(".789012", ".789012+00") for t in TIMES_REFUSED),
         f"{LARGE_TIME}+00"),
        loses="in Trino it is rounded to milliseconds; silver has all six digits",
    ),
    Type(
        "interval", "string", "varchar",
        texts("1 year -2 mons +3 days -04:05:06.789", "-178000000 years", "178000000 years",
                "-1 mons -3 days -00:00:00.000001", "00:00:00", "2147483647 days",
                "2147483647:59:59.999999"),
        loses="an interval's type: it is text; `infinity` and `-infinity` (17) arrive as `00:00:00`",
    ),
)  # fmt: skip

# Types of catalog names: one that exists, and none.
NAMES = (
    ("proc", "pg_backend_pid", "-"), ("procedure", "abs(integer)", "-"), ("oper", "||/", "0"),
    ("operator", "+(integer,integer)", "0"), ("type", "timestamp with time zone", "-"),
    ("class", "pg_class", "-"), ("role", "pg_monitor", "-"), ("namespace", "pg_catalog", "-"),
    ("config", "english", "-"), ("dictionary", "simple", "-"), ("collation", '"C"', "-"),
)  # fmt: skip

NETWORK_AND_BITS = (
    _text(
        "inet", "10.1.2.3", "192.168.0.1/24", "::ffff:1.2.3.4/128", "2001:db8::1/64", "0.0.0.0/0"
    ),
    _text("cidr", "10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32", "0.0.0.0/0"),
    _text("macaddr", "08:00:2b:01:02:03"),
    _text("macaddr8", "08:00:2b:01:02:03:04:05"),
    _text("bit(1)", "0", "1"),
    _text("bit(64)", "10" * 32),
    _text("varbit(20)", "", "101"),
    _text("pg_lsn", "0/0", "FFFFFFFF/FFFFFFFF"),
    _text("xid", "0", "4294967295"),
    _text("xid8", "18446744073709551615"),
    _text("tid", "(4294967295,65535)"),
    _text("pg_snapshot", "10:20:10,14,15"),
    _text("txid_snapshot", "10:20:10,14,15"),
    _text("cid", "0", "4294967295"),
    _text("int2vector", "1 2 3", ""),
    _text("oidvector", "4294967295 0"),
    _text("aclitem", "=r/pg_monitor"),
    *(_text(f"reg{kind}", value, none) for kind, value, none in NAMES),
)

GEOMETRY_AND_RANGES = (
    _text("point", "(1.5,-2.5)", "(1e+300,-1e-300)", "(NaN,Infinity)"),
    _text("line", "{1,-1,0.1}"),
    _text("lseg", "[(0,0),(1,1)]"),
    _text("box", "(2,2),(-0.5,0)"),
    _text("path", "[(0,0),(1,1),(2,0)]", "((0,0),(1,1))"),
    _text("polygon", "((0,0),(1,1),(2,0))"),
    _text("circle", "<(0.1,0),5>"),
    _text("int4range", "empty", "(,)", "[-2147483648,2147483647)"),
    _text("int8range", "[1,10)", "[-9223372036854775808,)"),
    _text("numrange", "(1.50,2.5]", "[NaN,NaN]"),
    _text("tsrange", '["0044-03-15 00:00:00 BC",infinity]'),
    _text("tstzrange", '["2026-01-01 00:00:00+00","2026-02-01 00:00:00.000001+00")'),
    _text("daterange", "[2026-01-01,infinity)", "[infinity,infinity]", "empty"),
    _text("int4multirange", "{}", "{[1,3),[5,7)}", server=14),
    _text("int8multirange", "{[-9223372036854775808,0),[7,)}", server=14),
    _text("nummultirange", "{(1.5,2.5),[7,7]}", server=14),
    _text("tsmultirange", '{["0044-03-15 00:00:00 BC",infinity]}', server=14),
    _text("tstzmultirange", '{["2026-01-01 00:00:00.000001+00",)}', server=14),
    _text("datemultirange", "{(,2026-01-01),[2027-01-01,)}", server=14),
)

ARRAYS = (
    _array("boolean", "boolean", "boolean", ("{t,f,NULL}", [True, False, None]), ("{}", [])),
    _array("smallint", "short", "smallint", ("{-32768,32767}", [-(2**15), 2**15 - 1])),
    _array("integer", "integer", "integer", ("{}", []), ("{1,NULL,3}", [1, None, 3]),
           refused=("{{1,2},{3,4}}", "[2:3]={7,8}", "[0:0]={1}")),
    _array("bigint", "long", "bigint", ("{9223372036854775807}", [2**63 - 1])),
    _array("real", "float", "real", ("{1.5,NaN}", [1.5, NAN])),
    _array("double precision", "double", "double", ("{0.1,-Infinity,NULL}", [0.1, -INFINITY, None])),
    _array("numeric(10,2)", "decimal(10,2)", "decimal(10,2)",
           ("{1.50,NULL,-99999999.99}", [Decimal("1.50"), None, Decimal("-99999999.99")]),
           refused=("{1.00,NaN}",)),
    _array("text", "string", "varchar", ('{"",NULL,"NULL","a,b","q\\"\\\\x","{}"}',
           ["", None, "NULL", "a,b", 'q"\\x', "{}"]), refused=("{{a}}",)),
    _array("varchar(10)", "string", "varchar", ("{x,y}", ["x", "y"])),
    _array("char(3)", "string", "varchar", ('{"ab "}', ["ab "])),
    _array("uuid", "string", "varchar", ("{ffffffff-ffff-ffff-ffff-ffffffffffff,NULL}",
           ["ffffffff-ffff-ffff-ffff-ffffffffffff", None])),
    _array("bytea", "binary", "varbinary", ('{"\\\\x00ff",NULL,"\\\\x"}', [b"\x00\xff", None, b""])),
    _array("json", "string", "varchar", ('{"{\\"a\\": 1}",NULL,"null"}', ['{"a": 1}', None, "null"])),
    _array("jsonb", "string", "varchar", ('{"{\\"a\\": 1}",NULL}', ['{"a": 1}', None])),
    _array("date", "date", "date", ("{2026-11-21,NULL}", [dt.date(2026, 11, 21), None]),
           refused=("{infinity}", '{"0044-03-15 BC"}')),
    _array("time", "string", "varchar", ("{24:00:00,12:34:56.123456}", ["24:00:00", "12:34:56.123456"])),
    _array("timestamp", "timestamp_ntz", "timestamp(6)",
           ('{"2026-11-21 12:34:56.123456",NULL}', [_at(2026, 11, 21, 12, 34, 56, 123456), None]),
           refused=("{-infinity}",)),
    _array("timestamptz", "timestamp", "timestamp(3) with time zone",
           ('{"2026-11-21 12:34:56.123+00"}', [_at(2026, 11, 21, 12, 34, 56, 123000, zone=UTC)]),
           refused=("{infinity}",),
           loses="in Trino it is rounded to milliseconds; silver has all six digits"),
    *(
        _text(ddl, *values, loses="a list's type: it is text")
        for ddl, values in {
            "integer[][]": ("{{1,2},{3,4}}", "[0:1]={7,8}", "{}"),
            "numeric[]": (
                "{1.50,NaN,NULL}",
                Value("{1.50,-Infinity}", shown="{1.50,-Infinity} (14)", server=14),
            ),
            "inet[]": ("{192.168.0.1/24,NULL}",),
            "interval[]": ('{"1 day 02:03:04",NULL}',),
            "money[]": ("{$1.50}",),
            "point[]": ('{"(1,2)"}',),
            "int4range[]": ('{"[1,3)",empty}',),
            "bit(3)[]": ("{101}",),
            "timetz[]": ("{12:00:00+02}",),
        }.items()
    ),
)  # fmt: skip

# Types that users create; the statements create those of the matrix.
OWN_TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'très \"happy\", ''ok''', 'x y')",
    "CREATE DOMAIN positive AS int CHECK (value > 0)",
    "CREATE DOMAIN even AS positive CHECK (value % 2 = 0)",
    "CREATE DOMAIN price AS numeric(12,2)",
    "CREATE DOMAIN labels AS text[]",
    "CREATE TYPE address AS (street text, number int)",
    "CREATE TYPE person AS (name text, home address, tags text[])",
    "CREATE TYPE floatrange AS RANGE (subtype = float8)",
)
OWN = (
    _text("mood", "sad", "très \"happy\", 'ok'", "x y"),
    _array("mood", "string", "varchar", ('{sad,NULL,"x y"}', ["sad", None, "x y"])),
    Type("positive", "integer", "integer", exact(("2147483647", 2**31 - 1))),
    Type("even", "integer", "integer", exact(("2", 2))),
    Type("price", "decimal(12,2)", "decimal(12,2)", exact(("-0.01", Decimal("-0.01"))), ("NaN",)),
    Type("labels", "array<string>", "array(varchar)", exact(("{a,NULL}", ["a", None]))),
    _text("positive[]", "{5,NULL}", loses="a list's type: it is text"),
    _text("address", '("a, \\"b\\"",7)', "(,)"),
    _text("address[]", '{"(m,1)",NULL}', loses="a list's type: it is text"),
    _text("person", '(Ada,"(\\"main st\\",7)","{x,NULL}")'),
    _text("floatrange", "[1.5,Infinity]"),
)

EXTENSIONS = (
    _text("citext", "CiText", extension="citext"),
    _array("citext", "string", "varchar", ("{Ab,NULL}", ["Ab", None]), extension="citext"),
    _text("hstore", '"é"=>"1", "aa"=>NULL, "b"=>"\\\\"', '""=>"\\"q\\""', "", extension="hstore"),
    _text("ltree", "a.b.c", "", extension="ltree"),
    _text("lquery", "a.*{1,2}.b", extension="ltree"),
    _text("cube", "(1, 2),(3, 4.5)", extension="cube"),
    _text("seg", "1.0 .. 2.50", extension="seg"),
    _text("isbn", "978-0-393-04002-9", extension="isn"),
    _text("vector", "[1,2.5,-3]", extension="vector", tried=False),
    _text(
        "geometry", "0101000000000000000000F03F0000000000000040", extension="postgis", tried=False
    ),
)

TYPES: tuple[Type, ...] = (
    *NUMBERS,
    *TEXTS,
    *TIMES,
    *NETWORK_AND_BITS,
    *GEOMETRY_AND_RANGES,
    *ARRAYS,
    *OWN,
    *EXTENSIONS,
)


def _items(item: str, count: int = 2_000) -> str:
    return "{" + ",".join([item] * count) + "}"


# Values that Postgres stores outside of the row (with STORAGE EXTERNAL), so that an update of
# another column has an event without them.
LARGE_VALUES = {
    "text": "é" * 5_000,
    "varchar": "x" * 5_000,
    "char(5000)": "x" * 4_999,
    "citext": "X" * 5_000,
    "bytea": "\\x" + "00ff5c" * 3_000,
    "json": '{"a":  "' + "x" * 5_000 + '"}',
    "jsonb": '{"a": "' + "x" * 5_000 + '"}',
    "xml": "<a>" + "x" * 5_000 + "</a>",
    "numeric": "1234567890" * 900,
    "varbit": "10" * 20_000,
    "tsvector": " ".join(f"'w{number:04}':1" for number in range(1_000)),
    "path": "[" + ",".join(f"({number},0.5)" for number in range(500)) + "]",
    "polygon": "(" + ",".join(f"({number},0.5)" for number in range(500)) + ")",
    "hstore": ", ".join(f'"k{number:04}"=>"v"' for number in range(500)),
    "ltree": ".".join(["label"] * 1_000),
    "int4multirange": "{" + ",".join(f"[{n},{n + 1})" for n in range(0, 4_000, 2)) + "}",
    "int[]": _items("7"),
    "bigint[]": _items("7"),
    "text[]": _items("word"),
    "varchar(9)[]": _items("word"),
    "bytea[]": _items('"\\\\x00ff"'),
    "uuid[]": _items("00000000-0000-0000-0000-000000000001"),
    "date[]": _items("2026-11-21"),
    "timestamptz[]": _items('"2026-11-21 00:00:00+00"'),
    "numeric(10,2)[]": _items("1.50"),
    "numeric[]": _items("NaN"),
    "boolean[]": _items("t", 5_000),
    "jsonb[]": _items('"{}"'),
    "mood[]": _items("sad"),
    "labels": _items("label"),
    "integer[][]": "{" + _items("1", 1_000) + "," + _items("2", 1_000) + "}",
}
