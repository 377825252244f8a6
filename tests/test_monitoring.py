"""The board and the alert rules in `config_examples` are about metrics that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from jobtastic_ext.contrib.prometheus import Metrics
from jobtastic_ext.decisions import CALLS, MESSAGES, OUTCOMES

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "config_examples" / "monitoring"

#: A metric, and its selector if it has one.
SELECTED = re.compile(r"\b(jobtastic_\w+)(?:\{([^}]*)\})?")

#: One condition of a selector.
MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"')

WORDS = {
    "decision": {each.word for each in (*CALLS, *MESSAGES)},
    "outcome": {each.word for each in OUTCOMES},
}


def labels_by_metric() -> dict[str, set[str]]:
    """The labels of every series that is served, by its name."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    found: dict[str, set[str]] = {}
    parts = [*vars(metrics).values(), *metrics.plain.values()]
    for each in parts:
        if isinstance(each, MetricWrapperBase):
            labels = set(each._labelnames)
            for family in each.describe():
                if each._type == "counter":
                    found[f"{family.name}_total"] = labels
                else:
                    for end in ("bucket", "sum", "count"):
                        found[f"{family.name}_{end}"] = labels | (
                            {"le"} if end == "bucket" else set()
                        )
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
    return list(group["rules"])


def board() -> dict[str, Any]:
    return dict(json.loads((FOLDER / "grafana.json").read_text("utf-8")))


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in board()["panels"] for target in panel["targets"])


def faults(expression: str, metrics: dict[str, set[str]]) -> list[str]:
    """What an expression asks for that is not there."""
    found = []
    names = SELECTED.findall(expression)
    if not names:
        found.append("it is about nothing of ours")
    for name, selector in names:
        if name not in metrics:
            found.append(f"no metric {name}")
            continue
        for label, value in MATCHER.findall(selector):
            if label not in metrics[name]:
                found.append(f"{name} has no label {label}")
            elif label in WORDS:
                found += [
                    f"no {label} {one}" for one in value.split("|") if one not in WORDS[label]
                ]
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            every = set().union(*(metrics.get(each, set()) for each, _ in names))
            found += [f"no label {one}" for one in grouped.split(", ") if one not in every]
    if expression.count("(") != expression.count(")"):
        found.append("its brackets do not match")
    return found


@pytest.mark.parametrize("expression", list(expressions()))
def test_it_asks_for_what_there_is(expression: str) -> None:
    assert faults(expression, labels_by_metric()) == []


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ("rate(jobtastic_cals_total[5m])", "no metric jobtastic_cals_total"),
        ('jobtastic_calls_total{decision=~"joined|shared"}', "no decision shared"),
        ('jobtastic_runs_lost_total{decision="joined"}', "jobtastic_runs_lost_total has no label"),
        ("sum by (queue) (jobtastic_calls_total)", "no label queue"),
        ("up", "it is about nothing of ours"),
    ],
)
def test_what_is_not_there_would_be_seen(wrong: str, fault: str) -> None:
    assert fault in "; ".join(faults(wrong, labels_by_metric()))


def test_every_metric_is_shown_or_alerted_on_and_stands_in_the_docs() -> None:
    asked = {name for expression in expressions() for name, _ in SELECTED.findall(expression)}
    docs = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    for name in labels_by_metric():
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert any(each.startswith(base) for each in asked), name
        assert f"`{base}`" in docs, name


def test_an_alert_says_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) >= 7
    for rule in alerts:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]


def test_no_panel_lies_over_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
