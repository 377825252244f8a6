"""The page *What goes with what* says what the policy check does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from jobtastic_ext.errors import PolicyError
from jobtastic_ext.policy.fields import FIELDS
from jobtastic_ext.policy.loader import load_policy
from jobtastic_ext.policy.together import EXCLUSIONS

PAGE = (Path(__file__).parent.parent / "docs" / "together.md").read_text()

#: What to write for a field that the table only names; `cache_duration` because others need it.
VALUES = {
    "unique_for": "5m",
    "debounce": "10s",
    "cache_duration": "1h",
    "stale_while_revalidate": "1h",
    "failure_cache_duration": "30s",
}


def cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def table() -> dict[tuple[str, str], str]:
    """What the page says of each pair of settings."""
    part = PAGE.partition("## The table")[2]
    lines = [line for line in part.split("\n\n")[2].splitlines() if line.startswith("|")]
    head, _, *rows = (cells(line) for line in lines)
    assert len(head) > 3
    return {
        (row[0], column): word
        for row in rows
        for column, word in zip(head[1:], row[1:], strict=True)
        if word
    }


def setting(text: str) -> dict[str, str | int]:
    name, _, value = text.partition(": ")
    assert name in FIELDS
    read: dict[str, str | int] = {name: yaml.safe_load(value) if value else VALUES[name]}
    if name == "stale_while_revalidate":
        read["cache_duration"] = VALUES["cache_duration"]
    return read


def is_refused(*settings: str) -> bool:
    policy: dict[str, str | int] = {}
    for text in settings:
        policy |= setting(text)
    try:
        load_policy({"tasks": {"a.b": policy}})
    except PolicyError:
        return True
    return False


BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", BLOCKS)
def test_each_policy_of_the_page_can_be_had(tmp_path: Path, text: str) -> None:
    path = tmp_path / "jobtastic.yaml"
    path.write_text(text)
    assert load_policy(path).for_task("reports.divide") is not None


def test_there_are_policies_on_the_page() -> None:
    assert len(BLOCKS) >= 9


@pytest.mark.parametrize("pair", table(), ids=" and ".join)
def test_the_table_says_what_is_refused(pair: tuple[str, str]) -> None:
    assert table()[pair] == ("no" if is_refused(*pair) else "yes")


def test_the_table_has_every_refusal() -> None:
    said = {frozenset(pair) for pair, word in table().items() if word == "no"}
    for rule in EXCLUSIONS:
        for field in rule.fields:
            pairs = [pair for pair in said if rule.words in pair]
            assert any(one.partition(":")[0] == field for pair in pairs for one in pair), (
                f"{rule.words} beside {field} is not in the table"
            )


def test_a_refusal_says_what_to_set_instead() -> None:
    with pytest.raises(PolicyError) as refused:
        load_policy({"tasks": {"a.b": {"on_duplicate": "buffer_one", "unique_for": "5m"}}})
    assert "`unique_for` must be 0; for no second start in a time" in str(refused.value)
    with pytest.raises(PolicyError, match="`unique_for` needs `herd_avoidance_timeout`"):
        load_policy({"tasks": {"a.b": {"herd_avoidance_timeout": 0, "unique_for": "5m"}}})
    inherited = {"defaults": {"unique_for": "5m"}, "tasks": {"a.b": {"herd_avoidance_timeout": 0}}}
    with pytest.raises(PolicyError, match="needs"):
        load_policy(inherited)
    inherited["tasks"]["a.c"] = {}
    found = load_policy(inherited)
    assert [found.for_task(name).unique_for for name in ("a.b", "a.c")] == [0, 300]  # type: ignore[union-attr]
