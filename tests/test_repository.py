"""What a newcomer and the acceptance rely on: files, targets, pins and licences."""

import importlib
import importlib.metadata
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from cambist import cli
from cambist.config import Config
from protocol import reasons

ROOT = Path(__file__).resolve().parent.parent
REQUIRED_FILES = (
    *("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "THIRD_PARTY.md"),
    *("docs/operations.md", "docs/control.md", "docs/risk.md", "docs/rings.md", "docs/postgres.md"),
    *("Makefile", "constraints.txt", "pyproject.toml", ".ci/run"),
)
REQUIRED_TARGETS = ("help", "run", "test", "test-long", "check", "bench", "clean", "venv")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def direct_requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    optional = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in project["dependencies"] + optional]


def pins() -> dict[NormalizedName, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def required_distributions() -> set[NormalizedName]:
    """Return the canonical names of all distributions that a development install of this platform needs."""
    waiting = direct_requirements()
    names: set[NormalizedName] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in names:
            continue
        names.add(name)
        for line in importlib.metadata.requires(name) or []:
            dependency = Requirement(line)
            if dependency.marker is None or dependency.marker.evaluate({"extra": ""}):
                waiting.append(dependency)
    return names


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_required_file_is_there_and_not_empty(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0


def test_ci_script_is_executable() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.parametrize("target", REQUIRED_TARGETS)
def test_make_help_lists_the_target(target: str) -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.search(rf"^  {target}  +\w", listed.stdout, re.MULTILINE), listed.stdout


def test_make_without_a_target_prints_the_help() -> None:
    printed = [
        subprocess.run(
            ["make", "--no-print-directory", *target], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for target in ([], ["help"])
    ]
    assert printed[0] == printed[1]


def test_constraints_are_exact_pins_alone_each_once_in_order() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [] == [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)]
    names = [canonicalize_name(line.split("==")[0]) for line in lines]
    assert sorted(set(names)) == names


def test_every_distribution_that_an_install_needs_is_pinned() -> None:
    assert set() == required_distributions() - pins().keys()


def test_every_pin_is_needed_by_an_install() -> None:
    assert set() == pins().keys() - required_distributions()


def test_installed_versions_are_the_pinned_ones() -> None:
    installed = {name: importlib.metadata.version(name) for name in required_distributions()}
    assert pins() == installed


def test_build_backend_is_pinned_like_the_rest() -> None:
    assert [f"setuptools=={pins()[canonicalize_name('setuptools')]}"] == PYPROJECT["build-system"]["requires"]


def third_party_names() -> set[NormalizedName]:
    rows = re.findall(r"^\| ([A-Za-z0-9._-]+) \|", (ROOT / "THIRD_PARTY.md").read_text(), re.MULTILINE)
    return {canonicalize_name(row) for row in rows} - {canonicalize_name("package")}


def test_third_party_lists_every_direct_dependency() -> None:
    assert set() == {canonicalize_name(requirement.name) for requirement in direct_requirements()} - third_party_names()


def test_third_party_lists_exactly_what_is_pinned() -> None:
    assert pins().keys() == third_party_names()


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def relative_links() -> Iterator[tuple[Path, str]]:
    for path in documents():
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            if not re.match(r"[a-z]+:", target):
                yield path, target


def test_relative_links_of_the_documents_lead_somewhere() -> None:
    assert [] == [(path.name, target) for path, target in relative_links() if not (path.parent / target).exists()]


def test_commands_in_the_documents_are_those_of_the_program() -> None:
    known = {
        *cli.COMMANDS,
        *(name for provider in cli.PROVIDERS for name in importlib.import_module(provider).COMMANDS),
    }
    written = {
        name
        for path in documents()
        for name in re.findall(r"(?:^ +|`|\$ |/)cambist ([a-z-]+)", path.read_text(), re.MULTILINE)
    }
    assert set() == written - known


def test_keys_of_the_configuration_are_in_the_operators_page() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    sections = {"engine", "tables", "rings", "control", "replica", "snapshots", "postgres", "archive", "demo", "limits"}
    sections |= {"rate_limits"}
    keys = {f"{section}.{key}" for section in sections for key in getattr(Config(), section).__struct_fields__}
    assert set() == {key for key in keys if not re.search(rf"`({key}|{key.split('.')[1]})`", page)}


def test_every_reason_of_refusal_is_in_the_page_of_risk() -> None:
    page = (ROOT / "docs/risk.md").read_text()
    refusals = {name for code, name in reasons.NAME.items() if 0 < code < reasons.BY_USER}
    assert set() == {name for name in refusals if f"`{name}`" not in page}
