"""`python -m app.metrics.monitoring.write_files`: writes the files that are generated from
`app/metrics/declarations`.

These are `grafana/generated`, and in the runbook a section for each alert that has none; a test checks that
they are up to date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from app.metrics.metric_list import DASHBOARDS
from app.metrics.monitoring import runbook
from app.metrics.monitoring.alert_rules import grafana_rules, prometheus_rules
from app.metrics.monitoring.grafana_panels import dashboard_json

FOLDER = Path(__file__).resolve().parents[3] / "grafana"
_HEADER = "# Written by `python -m app.metrics.monitoring.write_files`; not edited by hand.\n"


class _Quoting(yaml.SafeDumper):
    """Quotes every text except keys, because a text in YAML 1.1 may be a number or a boolean in Go's YAML."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
        node = super().represent_mapping(tag, mapping, flow_style)
        for key, _ in node.value:
            key.style = None
        return node

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists too."""
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:
        """Write a value again instead of a reference to its first occurrence."""
        return True


_Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def dump(value: Any) -> str:
    """Write dicts, lists, texts, numbers, truth values and None as YAML."""
    return yaml.dump(
        value, Dumper=_Quoting, sort_keys=False, allow_unicode=True, width=float("inf")
    )


def files() -> dict[str, str]:
    """Return path below `grafana/` → content, for every file that is written."""
    found = {
        "generated/rules.yml": _HEADER + dump(prometheus_rules()),
        "generated/grafana-rules.yaml": _HEADER + dump(grafana_rules()),
        "runbook.md": runbook.with_all_sections(runbook.SOURCE.read_text()),
    }
    for dashboard in DASHBOARDS:
        text = json.dumps(dashboard_json(dashboard), indent=1, ensure_ascii=False)
        found[f"generated/dashboards/{dashboard.name}.json"] = text + "\n"
    return found


def main() -> int:
    """Write all files; remove those below `generated` that are no longer made."""
    made = files()
    for old in sorted((FOLDER / "generated").rglob("*")):
        if old.is_file() and old.relative_to(FOLDER).as_posix() not in made:
            old.unlink()
    for name, text in made.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    print(f"{len(made)} files under {FOLDER.name}/", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
