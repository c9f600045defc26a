"""Commands of terraform that need no apply: its own tests, the archive of all that is deployed, and
the way of those who have a provider of the registry."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.conftest import PROJECT
from tests.infra.test_archive import listed
from tests.terraform import ROOT, Mocked, Terraform, copied, started

pytestmark = pytest.mark.timeout(1500)  # each command costs seconds, and the machine may be busy


@pytest.mark.parametrize(
    "file", sorted((ROOT / "infra" / "tests").glob("*.tftest.hcl")), ids=lambda file: file.stem
)
def test_terraforms_own_tests_are_green(terraform: Terraform, file: Path) -> None:
    done = terraform.run("test", f"-filter=tests/{file.name}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Success! [1-9][0-9]* passed, 0 failed\.", done.stdout)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    with started(tmp_path_factory.mktemp("whole"), whole=True) as terraform:
        done = terraform.run(
            "plan", "-target=data.archive_file.functions", f"-var=project_id={PROJECT}"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        with zipfile.ZipFile(terraform.work / "build" / "functions.zip") as made:
            yield made


def test_the_archive_is_what_gcloud_would_deploy_file_by_file(archive: zipfile.ZipFile) -> None:
    assert sorted(archive.namelist()) == listed()
    assert {
        "main.py",
        "requirements.txt",
        "functions/policy.yaml",
        "functions/sweep/sweep.py",
    } <= set(archive.namelist())
    parts = {part for path in archive.namelist() for part in path.split("/")}
    assert not parts & {"ops", "tests", "infra", "__pycache__", ".env", "docs"}
    for path in archive.namelist():
        assert archive.read(path) == (ROOT / path).read_bytes(), path


def test_the_way_without_tfmock_takes_the_same_files(terraform: Terraform, tmp_path: Path) -> None:
    """With tfmock in the place of the registry's provider."""
    if not isinstance(terraform, Mocked):
        pytest.skip("this is the way with a provider of the registry already")
    other = Terraform(copied(tmp_path, whole=False), terraform.provider)
    assert other.init().returncode == 0
    assert "Success!" in other.run("validate").stdout
