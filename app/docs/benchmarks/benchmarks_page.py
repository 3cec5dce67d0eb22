"""`docs/benchmarks.md` and its pictures, from the reports in `tests/bench/results`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.docs.benchmarks.bar_picture import Row, bars_svg, number
from app.docs.benchmarks.reports import Report, Reports, goals, proven, read_reports
from app.docs.markdown import code, page, table

PICTURES = "benchmarks"
HOPS = ("kafka", "bronze", "silver", "trino")
METHOD = """\
How fast Headwater is, measured by `./headwater bench NAME`, and what each figure hangs on. The benchmarks are described
[beside their code](../tests/bench/README.md); each figure here comes from a report in `tests/bench/results`.

## Method
- **Equality first.** A report is written only after `verify` found all tables of the benchmark equal to the source, row by
  row and column by column. Its `verdicts` say so, and `workload` is a hash of the rows.
- **One machine for everything**: source, load, stack and probe share its cores, Kafka, Postgres and the object store one disk.
  A report has the machine, the versions and the machine's load at the begin and the end.
- **Freshness**: each second a probe in a process of its own edits one row of a loaded table, whether or not earlier edits have
  arrived. Kafka's time is a consumer's; bronze's and silver's are those at which the file appeared on the store's disk,
  for which no service is asked; Trino is asked when silver has the edit, and again every 100 ms, and the time of the answering query
  is part of the figure.
- **The probe's share** is stated: the same load runs without the probe first. The CPU of a stack in these tables is that without it.

## Caveats
- One run each, on the machine below; other machines and other disks give other figures.
- Tables of the freshness cases have 2,000 rows; `bench growth` is about larger ones.
- The JVMs of a stack compile their code in its first ten minutes; except `young`, the cases run after a minute of warming up.
- On two cores a load can be more than the machine makes: *made* is what its generator really committed. In reports without `made_per_s` it is
  the mean over the warming up and the comparison of all rows, too, which take the cores from it.
- The load generator and the probe take their CPU from the same cores: `load` and `probe` in the profile.
- Freshness is not corrected for the probe; only CPU is."""


def benchmarks_page() -> str:
    """The page; a chapter for each kind of report that there is."""
    reports = read_reports()
    heads = ["work", "measured", "goal", ""]
    parts = [
        f"## Goals\n{table(heads, (goal.cells() for goal in goals(reports)))}",
        *filter(None, (chapter(reports) for chapter in CHAPTERS)),
    ]
    return page("Benchmarks", METHOD, *parts)


def benchmark_pictures() -> dict[str, str]:
    """File name → SVG, for the kinds of report that have a picture."""
    reports = read_reports()
    found: dict[str, tuple[str, Sequence[Row], str]] = {
        "freshness.svg": ("Commit to a Trino answer", _freshness_bars(reports), "s"),
        "hops.svg": ("Commit to each hop, median", _hop_bars(reports), "s"),
        "cpu.svg": ("CPU of each process without the probe", _cpu_bars(reports), "cores"),
        "rates.svg": ("Changes or rows a second", _rate_bars(reports), "/s"),
        "queries.svg": ("Ten queries, median", _query_bars(reports), "s"),
        "peers.svg": ("Changes a CPU-second, equal rows only", _peer_bars(reports), "/s"),
    }
    return {name: bars_svg(*given) for name, given in found.items() if given[1]}


def _cases(reports: Reports, kind: str) -> dict[str, Report]:
    """Case → report, of one benchmark; by the rate, not by the name."""
    found = {n.removeprefix(kind): r for n, r in reports.items() if n.startswith(kind)}
    return dict(
        sorted(found.items(), key=lambda item: (item[1].get("changes_per_s") or 0, item[0]))
    )


def _freshness(reports: Reports) -> str:
    cases = _cases(reports, "freshness_")
    if not cases:
        return ""
    rows = []
    for name, one in cases.items():
        for hop in HOPS:
            seen = one["seconds"][hop]
            values = (
                [f"{seen[key]:.2f}" for key in ("p50", "p95", "p99", "max")]
                if seen["n"]
                else [""] * 4
            )
            rows.append([name if hop == HOPS[0] else "", hop, *values, str(seen["n"])])
    profile = _profile(
        {name: one["cores_without_probe"] or one["cores"] for name, one in cases.items()}
    )
    costs = [
        [
            name, _value(one["stack_cores_without_probe"]), _value(one["probe_cores"]["own"]),
            _value(one["probe_cores"]["in_services"]), _value(one["questions_an_edit"]), f"{one['memory_mib']:,}",
            _value(one.get("made_per_s", one["load_made"].get("achieved"))),
        ]
        for name, one in cases.items()
    ]  # fmt: skip
    return "\n\n".join(
        [
            "## Freshness\nSeconds from the commit. A case is changes a second x tables; `young` is 50x8 from the moment when the stack "
            "is ready, `maintenance` is 50x8 with vacuums every minute.",
            _picture("freshness.svg", "Commit to a Trino answer"),
            _picture("hops.svg", "Commit to each hop"),
            table(["case", "hop", "p50", "p95", "p99", "max", "n"], rows),
            "CPU in cores, memory in MiB, questions to Trino an edit, changes a second that were made:",
            table(
                ["case", "stack without the probe", "the probe's process", "its share in the services", "questions", "memory", "made"],
                costs,
            ),
            "CPU of each process in cores, without the probe:",
            profile,
            _picture("cpu.svg", "CPU of each process"),
        ]
    )  # fmt: skip


def _throughput(reports: Reports) -> str:
    rows = []
    if one := reports.get("throughput_sustained"):
        final = one["final"]
        work = f"{'held' if final['flat'] else 'made, not held,'} for {final['lasted_s']:.0f} s, lag p50 {final['lag_s']['p50']} s, p95 {final['lag_s']['p95']} s"
        rows.append(
            [
                work,
                number(final["made_per_s"]),
                number(one["events_per_cpu_s"]),
                str(one["total_mib"]),
            ]
        )
    for name, work in (("throughput_burst", "drain of {changes:,} mixed changes"), ("throughput_transaction", "one transaction of {changes:,} updates")):  # fmt: skip
        if one := reports.get(name):
            rows.append([work.format(**one), number(one["changes_per_s"]), number(one["events_per_cpu_s"]), str(one["total_mib"])])  # fmt: skip
    for name, one in _cases(reports, "snapshot_").items():
        work = f"{name.replace('_', ' snapshot, ')} table, {one['rows']:,} rows"
        rows.append(
            [
                work,
                number(one["rows_per_s"]),
                number(one["rows_per_cpu_s"]),
                str(one["total_mib"] or ""),
            ]
        )
    if not rows:
        return ""
    cpu = {n: one["events_per_cpu_s_of"] for n, one in _cases(reports, "throughput_").items()}
    cpu |= {n: one["rows_per_cpu_s_of"] for n, one in _cases(reports, "snapshot_").items()}
    return "\n\n".join(
        [
            "## Throughput and snapshots",
            _picture("rates.svg", "Changes or rows a second"),
            table(["work", "a second", "a CPU-second of the whole stack", "memory, MiB"], rows),
            "Changes or rows a CPU-second of each process:",
            _profile(cpu),
            *_windows(reports),
        ]
    )


def _windows(reports: Reports) -> list[str]:
    """The windows in which the sustained rate was looked for, in their order; none without that report."""
    if (one := reports.get("throughput_sustained")) is None:
        return []
    rows = [
        [
            number(window["rate"]), number(window["made_per_s"]), f"{window['lasted_s']:.0f}", _value(window["lag_s"]["p50"]),
            f"{window['lag_first_third_s']} → {window['lag_last_third_s']}", "yes" if window["flat"] else "no",
        ]
        for window in [*one["tried"], *([] if one["final"] in one["tried"] else [one["final"]])]
    ]  # fmt: skip
    heads = ["changes a second asked", "made", "seconds", "lag p50, s", "lag, first and last third, s", "held"]  # fmt: skip
    return [
        f"These are the windows in which the sustained rate was searched, in their order. All use the same {one['tables']} tables, which grow "
        "meanwhile: there are more inserts than deletes. Updates change random rows, and a merge rewrites each file that has such a row. A rate "
        "is held if the lag does not grow and at least 97 % of the changes were made.",
        table(heads, rows),
    ]


def _queries(reports: Reports) -> str:
    one = reports.get("queries")
    if one is None:
        return ""
    rows = [
        [name, *(f"{one[when][name][where]['p50']:.2f}" for when in ("quiet", "under_load") for where in ("silver", "copy"))]
        for name in one["quiet"]
    ]  # fmt: skip
    files = one["files"]["q_orders"]
    return "\n\n".join(
        [
            f"## Queries\nThe median time of each query in seconds, on {one['rows']:,} rows: on silver's table after many merges ({files['files']} files), "
            "and on a copy that was written just before. Both gave the same answer to every query.",
            _picture("queries.svg", "Ten queries"),
            table(
                ["query", "silver", "fresh copy", "silver under load", "fresh copy under load"],
                rows,
            ),
        ]
    )


def _growth(reports: Reports) -> str:
    parts = []
    if one := reports.get("growth_rows"):
        heads = [
            "keys, rows",
            "seconds",
            "silver's CPU, s",
            "bytes written for each changed",
            "log share",
            "files",
        ]
        rows = [
            [name, *(number(case[key]) for key in ("seconds", "silver_cpu_s", "written_for_each_byte_changed")), f"{case['log_share']:.2f}", str(case["files"])]
            for name, case in one["cases"].items()
        ]  # fmt: skip
        sizes = ", ".join(f"{name} is {rows:,} rows" for name, rows in one["rows"].items())
        parts.append(f"{one['changes']:,} changes of each table, 2,000 a second; {sizes}.")
        parts.append(table(heads, rows))
    if many := _cases(reports, "growth_tables_"):
        rows = [
            [name, number(one["changes_per_s"]), _value(one["lag_s"].get("p50")), _value(one["lag_s"].get("p95")), _value(sum(one["cores"].values())), f"{one['total_mib']:,}"]
            for name, one in sorted(many.items(), key=lambda item: int(item[0]))
        ]  # fmt: skip
        parts.append(
            table(["tables", "changes a second", "lag p50, s", "p95", "cores", "memory, MiB"], rows)
        )
    if one := reports.get("growth_time"):
        heads = ["minute", "memory, MiB", "files", "data, B", "log, B"]
        keys = ("memory_mib", "files", "data_bytes", "log_bytes")
        rows = [[f"{s['minute']:g}", *(f"{s[key]:,}" for key in keys)] for s in one["samples"]]
        parts.append(table(heads, rows))
    return "\n\n".join(["## Growth", *parts]) if parts else ""


def _peers(reports: Reports) -> str:
    cases = _cases(reports, "peers_")
    if not cases:
        return ""
    rows = [
        [
            name, one.get("verdict", ""), _value(one.get("changes_per_s")), _value(one.get("changes_per_cpu_s")),
            _value(one.get("freshness_s", {}).get("p50")), _value(one.get("freshness_s", {}).get("p95")),
        ]
        for name, one in cases.items()
    ]  # fmt: skip
    return "\n\n".join(
        [
            "## Peers\nEvery system ran on the same machine, with the same source and the same changes. The method, and what gives one "
            "system an advantage, are described in [its chapter](../tests/bench/README.md#peers).",
            _picture("peers.svg", "Changes a CPU-second"),
            table(
                [
                    "contender",
                    "rows",
                    "changes a second",
                    "a CPU-second",
                    "freshness p50, s",
                    "p95",
                ],
                rows,
            ),
        ]
    )


def _reports(reports: Reports) -> str:
    if not reports:
        return "## Reports\nThere is none yet."
    machines = {str(one["machine"]): one["machine"] for one in reports.values() if "machine" in one}
    lines = [
        f"- {m['cores']} cores of {m['cpu']}, {m['memory_gib']} GiB, Linux {m['kernel']}"
        for m in machines.values()
    ]
    rows = [
        [
            code(f"{name}.json"), "equal" if proven(one) else "", _load(one, "begin"), _load(one, "end"),
            str(one.get("seed", "")), code(str(one.get("workload", ""))[:12]), ", ".join(_versions(one)),
        ]
        for name, one in reports.items()
    ]  # fmt: skip
    heads = ["report", "rows", "load before", "load after", "seed", "workload", "versions"]
    return "\n\n".join(["## Reports", "\n".join(lines), table(heads, rows)])


def _versions(report: Report) -> list[str]:
    wanted = ("headwater", "spark", "delta-rs", "kafka", "trino", "postgres", "jre")
    return [f"{n} {report['versions'][n]}" for n in wanted if n in report.get("versions", {})]


def _load(report: Report, when: str) -> str:
    found = report.get("load", {}).get(when) or []
    return str(found[0]) if found else ""


def _profile(cases: Mapping[str, Mapping[str, float]]) -> str:
    """A row for each process, a column for each case; rows without a figure that counts are left out."""
    names = sorted({name for one in cases.values() for name in one})
    rows = [[name, *(_value(one.get(name)) for one in cases.values())] for name in names]
    return table(
        ["process", *cases],
        (row for row in rows if any(cell not in ("", "0.00") for cell in row[1:])),
    )


def _value(value: float | None) -> str:
    return "" if value is None else number(value)


def _picture(name: str, text: str) -> str:
    return f"![{text}]({PICTURES}/{name})"


def _freshness_bars(reports: Reports) -> list[Row]:
    cases = _cases(reports, "freshness_").items()
    keys = ("p50", "p95", "p99")
    return [
        (n, {key: one["seconds"]["trino"][key] for key in keys})
        for n, one in cases
        if one["seconds"]["trino"]["n"]
    ]


def _hop_bars(reports: Reports) -> list[Row]:
    cases = _cases(reports, "freshness_").items()
    return [
        (n, {h: one["seconds"][h]["p50"] for h in HOPS if one["seconds"][h]["n"]})
        for n, one in cases
    ]


def _cpu_bars(reports: Reports) -> Sequence[Row]:
    cases = _cases(reports, "freshness_")
    rows: dict[str, dict[str, float]] = {}
    for name in ("0x8", "50x8", "500x8"):
        for process, cores in (cases.get(name, {}).get("cores_without_probe") or {}).items():
            if cores >= 0.01:
                rows.setdefault(process, {})[name] = cores
    return sorted(rows.items(), key=lambda item: -max(item[1].values()))


def _rate_bars(reports: Reports) -> list[Row]:
    found: list[Row] = []
    for name, one in {**_cases(reports, "throughput_"), **_cases(reports, "snapshot_")}.items():
        value: Any = one.get("changes_per_s") or one.get("rows_per_s")
        if value:
            found.append((name.replace("_", ", "), {"a second": value}))
    return found


def _query_bars(reports: Reports) -> list[Row]:
    quiet = reports.get("queries", {}).get("quiet", {})
    return [
        (n, {"silver": one["silver"]["p50"], "fresh copy": one["copy"]["p50"]})
        for n, one in quiet.items()
    ]


def _peer_bars(reports: Reports) -> list[Row]:
    cases = _cases(reports, "peers_").items()
    return [
        (name, {"a CPU-second": one["changes_per_cpu_s"]})
        for name, one in cases
        if proven(one) and "changes_per_cpu_s" in one
    ]


CHAPTERS = (_freshness, _throughput, _queries, _growth, _peers, _reports)
