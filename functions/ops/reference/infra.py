"""infra/REFERENCE.md: the variables and outputs of infra/*.tf, and the alerts and metrics of
infra/alerts. Blocks of Terraform are read as `terraform fmt` writes them."""

import re
from pathlib import Path
from typing import Any

from functions.ops.cli.alert_files import log_matches, metrics, rules_in_full

INFRA = Path(__file__).parents[3] / "infra"
_HEAD = """# Reference of infra/

*For you if you look up a variable, a metric or an alert. 1 minute.*

<!-- Made by `make docs` from infra/*.tf and infra/alerts/. Edit those instead. -->

The [README](README.md) says how to use them, and what each alert means.
"""
_VARIABLES = """
## Variables

| variable | type | default | meaning |
|---|---|---|---|
"""
_OUTPUTS = """
## Outputs

| output | meaning |
|---|---|
"""
_RULES = """
## Alerts on metrics

Evaluated each minute. A number with a comment comes from `functions/policy.yaml`; `unstuck` is the
variable `name`.
"""
_LINES = """
## Alerts on single log lines
"""
_METRICS = """
## Log-based metrics

Each counts lines of the functions of one installation, by its labels. One with a value keeps the
distribution of that field.

| metric | lines | of | labels | value |
|---|---|---|---|---|
"""
_BLOCK = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)


def text() -> str:
    return "".join(
        (
            _HEAD,
            _VARIABLES,
            *(_variable(name, body) for name, body in blocks("variable")),
            _OUTPUTS,
            *(
                f"| `{name}` | {_cell(_value(body, 'description'))} |\n"
                for name, body in blocks("output")
            ),
            _RULES,
            *map(_rule, rules_in_full()),
            _LINES,
            *map(_line, log_matches()),
            _METRICS,
            *(_metric(name, metric) for name, metric in metrics().items()),
        )
    )


def blocks(kind: str) -> list[tuple[str, str]]:
    """The name and the body of each variable or output, in the order of the files."""
    files = sorted(INFRA.glob("*.tf"))
    matches = [match for file in files for match in _BLOCK.finditer(file.read_text("utf-8"))]
    return [(match[2], match[3]) for match in matches if match[1] == kind]


def _value(body: str, name: str) -> str:
    """What an argument of the block is set to, in one line; empty when it is not there."""
    pattern = rf"^  {name} += (.*?)(?=^  \w+ +=|^  \w+ \{{|\Z)"
    match = re.search(pattern, body, re.MULTILINE | re.DOTALL)
    return " ".join(match[1].split()) if match else ""


def _variable(name: str, body: str) -> str:
    default = _value(body, "default")
    kind = re.sub(r" *#.*", "", _value(body, "type"))
    kind = kind if len(kind) < 40 else f"{kind.partition('(')[0]}, see `variables.tf`"
    cells = (
        f"`{name}`",
        kind if "`" in kind else f"`{kind}`",
        f"`{default}`" if default else "required",
        _cell(_value(body, "description")),
    )
    return f"| {' | '.join(cells)} |\n"


def _rule(rule: dict[str, Any]) -> str:
    return (
        f"\n### {rule['alert']}\n\n{rule['labels']['severity']}, when true for {rule['for']}: "
        f"{rule['annotations']['summary']}.\n\n```promql\n{rule['expr'].strip()}\n```\n"
    )


def _line(alert: dict[str, Any]) -> str:
    shown = ", ".join(f"`{name}` = `{path}`" for name, path in alert["labels_from"].items())
    return (
        f"\n### {alert['alert']}\n\n{alert['labels']['severity']}, told at most once in "
        f"{alert['every']}, with {shown}: {alert['annotations']['summary']}.\n\n"
        f"```text\n{alert['filter'].strip()}\n```\n"
    )


def _metric(name: str, metric: dict[str, Any]) -> str:
    labels = metric.get("labels", {})
    cells = (
        f"`{name}`",
        f"`{metric['filter']}`",
        f"`{metric['service']}`" if "service" in metric else "all",
        ", ".join(f"`{label}` = `{path}`" for label, path in labels.items()) or "-",
        f"`{metric['value']}`" if "value" in metric else "-",
    )
    return f"| {' | '.join(cells)} |\n"


def _cell(text: str) -> str:
    """A string of Terraform as the text of a cell."""
    return text.strip('"').replace('\\"', '"').replace("|", "\\|").replace("*", "\\*")
