"""Dashboards of Grafana, a line for each panel: in its own JSON it has thirty, of which one says something."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

_SCHEMA_VERSION: Final = 39  # of Grafana 11; newer ones migrate it when they load it
_COLUMNS: Final = 24  # of Grafana's grid
_STAT_WIDTH: Final = 4
_STAT_HEIGHT: Final = 4
_GRAPH_WIDTH: Final = 8
_GRAPH_HEIGHT: Final = 8
SELECTED: Final = 'instance=~"$instance"'
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_GREEN, _YELLOW, _RED = "green", "orange", "red"


class Query(NamedTuple):
    """PromQL, and what its lines are called; `@` in it stands for the choice of instances."""

    expr: str
    legend: str = "{{instance}}"


class Panel(NamedTuple):
    """A figure or a graph."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    warning: float | None = None  # from here on yellow
    critical: float | None = None  # and from here on red; below `warning` if small is bad


class Row(NamedTuple):
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


class Board(NamedTuple):
    """A dashboard."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]


def stat(title: str, expr: str, unit: str, description: str, warning: float | None, critical: float | None) -> Panel:
    """One figure, and whether it is well."""
    return Panel(title, description, unit, [Query(expr, "")], "stat", warning, critical)


def graph(title: str, unit: str, description: str, *queries: tuple[str, str], warning: float | None = None) -> Panel:
    """Lines over time."""
    return Panel(title, description, unit, [Query(*query) for query in queries], warning=warning)


def rate(metric: str, *by: str, where: str = "") -> str:
    matchers = ", ".join(filter(None, (SELECTED, where)))
    return f"sum by ({', '.join(by)}) (rate({metric}{{{matchers}}}[$__rate_interval]))"


def sum_of(metric: str, *by: str) -> str:
    return f"sum by ({', '.join(by)}) ({metric}{{{SELECTED}}})"


def quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket{{{SELECTED}}}[$__rate_interval])))"


FIRING: Final = stat(
    "Alerts firing",
    'count(ALERTS{alertname=~"Redconnect.+", alertstate="firing"}) or vector(0)',
    "short",
    "Alerts of all instances that fire now. What each means: RUNBOOK.md.",
    1,
    3,
)
UP: Final = stat(
    "Instances down",
    f'count(up{{job="redconnect", {SELECTED}}} == 0) or vector(0)',
    "short",
    "Targets that Prometheus cannot scrape.",
    None,
    1,
)
LAG: Final = stat(
    "Event loop lag, p99",
    f"max(instance:redconnect_event_loop_lag_seconds:p99_5m{{{SELECTED}}})",
    "s",
    "How late the busiest process is. Above 0.1 s sound and picture suffer.",
    0.05,
    0.1,
)


def board_text(board: Board) -> str:
    """The dashboard as Grafana imports it."""
    value = {
        "uid": f"redconnect-{board.name}",
        "title": board.title,
        "description": board.description,
        "tags": ["redconnect"],
        "schemaVersion": _SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "tags": ["redconnect"],
                "title": "redconnect",
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "annotations": {"list": []},
        "templating": {"list": _variables()},
        "panels": list(_panels(board)),
    }
    return json.dumps(value, indent=1) + "\n"


def _variables() -> list[dict[str, Any]]:
    query = 'label_values(up{job="redconnect"}, instance)'
    return [
        {
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "hide": 0,
        },
        {
            "name": "instance",
            "label": "Instance",
            "type": "query",
            "datasource": _DATASOURCE,
            "definition": query,
            "query": {"query": query, "refId": "instances"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        },
    ]


def _panels(board: Board) -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for row in board.rows:
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        number, top, left, height = number + 1, top + 1, 0, 0
        for panel in row.panels:
            width, height = (_STAT_WIDTH, _STAT_HEIGHT) if panel.kind == "stat" else (_GRAPH_WIDTH, _GRAPH_HEIGHT)
            if left + width > _COLUMNS:
                left, top = 0, top + height
            yield {"id": number, "gridPos": {"x": left, "y": top, "w": width, "h": height}, **_panel(panel)}
            number, left = number + 1, left + width
        top += height


def _panel(panel: Panel) -> dict[str, Any]:
    is_stat = panel.kind == "stat"
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": _DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            "instant": is_stat,
            "range": not is_stat,
        }
        for number, query in enumerate(panel.queries)
    ]
    custom = (
        {}
        if is_stat
        else {"custom": {"lineWidth": 1, "fillOpacity": 10, "thresholdsStyle": {"mode": _threshold_style(panel)}}}
    )
    options: dict[str, Any] = {
        "tooltip": {"mode": "multi", "sort": "desc"},
        "legend": {"displayMode": "list", "placement": "bottom"},
    }
    if is_stat:
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "colorMode": "background",
            "graphMode": "none",
            "textMode": "value",
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "targets": targets,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "thresholds": {"mode": "absolute", "steps": _steps(panel)},
                "noValue": "–",
                **custom,
            },
            "overrides": [],
        },
        "options": options,
    }


def _threshold_style(panel: Panel) -> str:
    return "off" if panel.warning is None else "line"


def _steps(panel: Panel) -> list[dict[str, Any]]:
    warning, critical = panel.warning, panel.critical
    if warning is None and critical is None:
        return [{"color": _GREEN if panel.kind != "stat" else "blue", "value": None}]
    if warning is not None and critical is not None and critical < warning:  # small is bad
        return [
            {"color": _RED, "value": None},
            {"color": _YELLOW, "value": critical},
            {"color": _GREEN, "value": warning},
        ]
    steps: list[dict[str, Any]] = [{"color": _GREEN, "value": None}]
    if warning is not None:
        steps.append({"color": _YELLOW, "value": warning})
    if critical is not None:
        steps.append({"color": _RED, "value": critical})
    return steps
