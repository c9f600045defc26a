"""What Terraform makes of infra/, as files that people read: whoever changes what is deployed
changes them too, on purpose.

    make applied       writes them again; it needs TFMOCK (infra/README.md)"""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.infra.conftest import APPLY_ONLY, Infra

FOLDER = Path(__file__).parent / "applied"
CONFIGURATIONS = ("default", "everything")
MADE_UP = "mock-"
"""How a value begins that only the cloud knows."""
HASH = re.compile(r"[0-9a-f]{64}")
"""Of the archive: it changes with the code."""
OF_THE_PLATFORM = frozenset(
    {
        "create_time",
        "creation_record",
        "deletion_policy",
        "effective_labels",
        "etag",
        "id",
        "project",
        "self_link",
        "terraform_labels",
        "timeouts",
        "unique_id",
        "update_time",
    }
)
"""Arguments that nobody writes."""
TEXTS = frozenset({"content", "dashboard_json", "description", "links"})
"""For people, and tested elsewhere."""
OF_A_TYPE = {
    "google_monitoring_alert_policy": frozenset({"name", "query", "filter"}),
    "google_logging_metric": frozenset({"filter"}),
}
"""What is left out besides: queries and filters come from infra/alerts/*.yaml as they stand there,
which test_deployed_chain compares."""
NAMES_ONLY = ("data.", "google_storage_bucket_object.runbook", "google_project_service.")


def text_of(infra: Infra, configuration: str) -> str:
    """The whole file: an address, and below it ARGUMENT = VALUE of all that was written; then after
    which others each resource is made."""
    applied = infra.default if configuration == "default" else infra.switched_on
    order = (f"{one} AFTER {', '.join(found)}" for one, found in sorted(applied.after.items()))
    return "".join(f"{line}\n" for line in [*_lines(applied.resources), "", *order])


def _lines(resources: dict[str, dict[str, Any]]) -> Iterator[str]:
    for address, arguments in sorted(resources.items()):
        yield address
        if not address.startswith(NAMES_ONLY):
            kind = address.split("[")[0].split(".")[-2]
            left_out = OF_THE_PLATFORM | TEXTS | OF_A_TYPE.get(kind, frozenset())
            for path, value in sorted(_leaves(arguments, left_out)):
                yield f"  {path} = {HASH.sub('HASH', value)}"


def _leaves(value: Any, left_out: frozenset[str], path: str = "") -> Iterator[tuple[str, str]]:
    """(argument, its value as JSON). Blocks of which there are several are counted."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in left_out:
                yield from _leaves(inner, left_out, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for index, inner in enumerate(value):
            yield from _leaves(inner, left_out, path if len(value) == 1 else f"{path}[{index}]")
    elif value not in (None, [], "") and not str(value).startswith(MADE_UP):
        yield path, json.dumps(value, ensure_ascii=False)


def main() -> None:
    os.environ[APPLY_ONLY] = "1"
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        infra = Infra(Path(folder))
        for name in CONFIGURATIONS:
            (FOLDER / f"{name}.txt").write_text(text_of(infra, name), encoding="utf-8")


if __name__ == "__main__":
    main()
