"""The recipe for conda-forge says what pyproject.toml says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import nnsight_magic

ROOT = Path(__file__).parents[1]
# What conda-forge calls otherwise.
NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "conda/recipe.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def spelled(requirement: str) -> str:
    """`torch>=2.6` as conda writes it."""
    name, bound = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()
    return f"{NAMES.get(name, name)} {bound}"


def test_it_needs_what_the_package_needs_and_nothing_else(
    recipe: dict[str, Any], project: dict[str, Any]
) -> None:
    python, *others = recipe["requirements"]["run"]
    assert python == "python >=${{ python_min }}"
    assert sorted(others) == sorted(map(spelled, project["project"]["dependencies"]))
    assert others == sorted(others)
    built_with = recipe["requirements"]["host"]
    assert {*map(spelled, project["build-system"]["requires"])} <= {*built_with}


def test_version_python_licences_and_addresses_are_those_of_the_project(
    recipe: dict[str, Any], project: dict[str, Any]
) -> None:
    about, said = recipe["about"], project["project"]
    assert recipe["context"]["version"] == nnsight_magic.__version__
    assert f">={recipe['context']['python_min']}" == said["requires-python"]
    assert about["license"] == said["license"]
    assert about["license_file"] == said["license-files"]
    assert about["summary"] == said["description"]
    assert about["repository"] == said["urls"]["Source"]
    assert about["documentation"] == said["urls"]["Documentation"]
    assert re.fullmatch("[0-9a-f]{64}", recipe["source"]["sha256"])
