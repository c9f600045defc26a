"""What is installed, here and in the cloud, is named to the last file: nobody who can publish a
release of a library of a library can put code into a function."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
FILES = (
    "requirements",
    "requirements-local",
    "requirements-dev",
    "requirements-bench",
    "requirements-board",
    "requirements-board-oban",
)
_ENTRY = re.compile(
    r"^([A-Za-z0-9_.-]+)(?:\[[\w,-]+\])?==(\S+)( ; [^\\]+?)? \\\n"
    r"((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)


def locked(name):
    """{distribution: (version, marker)} of a locked file, which holds nothing else."""
    text = (ROOT / f"{name}.txt").read_text(encoding="utf-8")
    rest = _ENTRY.sub("", text)
    assert [line for line in rest.splitlines() if line and not line.startswith("#")] == []
    return {plain(match[1]): (match[2], match[3]) for match in _ENTRY.finditer(text)}


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def asked(name):
    """{distribution: version} of what a person asks for, there and in the files that it names."""
    lines = (ROOT / f"{name}.in").read_text(encoding="utf-8").splitlines()
    entries = [line.partition("#")[0].strip() for line in lines]
    pairs = (entry.split("==") for entry in entries if "==" in entry)
    versions = {plain(distribution.partition("[")[0]): version for distribution, version in pairs}
    for entry in entries:
        if entry.startswith("-r "):
            versions |= asked(entry.removeprefix("-r ").removesuffix(".in"))
    return versions


@pytest.mark.parametrize("name", FILES)
def test_each_distribution_is_pinned_by_hash_and_is_the_one_that_was_asked_for(name):
    """`make lock` makes the file."""
    pinned = {distribution: version for distribution, (version, _) in locked(name).items()}
    assert len(pinned) > len(asked(name))
    assert {distribution: pinned.get(distribution) for distribution in asked(name)} == asked(name)


def test_what_is_tested_is_what_is_deployed():
    deployed, tested = locked("requirements"), locked("requirements-dev")
    assert {name: tested.get(name) for name in deployed} == deployed


def test_what_runs_on_this_machine_is_a_part_of_what_is_tested():
    local, tested = locked("requirements-local"), locked("requirements-dev")
    assert {name: tested.get(name) for name in local} == local


def test_the_package_takes_the_pinned_versions_and_needs_only_the_command_line():
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [Requirement(text) for text in package["dependencies"]]
    assert {plain(one.name) for one in requirements} == {"psycopg", "pyyaml", "shtab"}
    for requirement in requirements:
        version, _ = locked("requirements-local")[plain(requirement.name)]
        assert version in requirement.specifier


def test_these_tests_run_with_the_pinned_versions():
    for name, (version, marker) in locked("requirements").items():
        if not marker:
            assert metadata.version(name) == version, name


@pytest.mark.parametrize("file", ["cloudbuild.yaml", "cloudbuild.deploy.yaml", "Makefile"])
def test_nothing_is_installed_from_a_list_without_hashes(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    for arguments in re.findall(r"pip install ([^\n&]*)", text):
        lists = re.findall(r"-r (\S+)", arguments)
        pins = re.findall(r"\S+==[\d.]+", arguments)
        assert lists or pins, arguments
        assert {name.removesuffix(".txt") for name in lists} <= set(FILES)
