"""Kinds that the language names before a version has them: using one is an error that says so."""

import pytest

from aiflow_sdk.errors import UnknownNameError
from aiflow_sdk.plugins import installed_registry


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("source", "jdbc"),
        ("source", "onestream"),
        ("source", "rest"),
        ("source", "snowflake"),
        ("sink", "feature_store"),
        ("sink", "onestream"),
        ("sink", "jdbc"),
        ("engine", "flink"),
        ("cluster", "emr"),
        ("cluster", "kubernetes"),
    ],
)
def test_a_kind_to_come_says_that_it_is_not_there_yet(family, kind):
    with pytest.raises(UnknownNameError, match=f"'{kind}' is not in this version yet") as caught:
        installed_registry().families[family].reference(kind)
    assert caught.value.code == f"unknown-{family}"
    assert caught.value.hint


def test_a_plugin_that_is_installed_is_first():
    registry = installed_registry()
    registry.sources.add("jdbc", "their_package:Jdbc", "their-package 1.0")
    assert registry.sources.reference("jdbc") == "their_package:Jdbc"


def test_a_misspelt_kind_is_misspelt_as_ever():
    with pytest.raises(UnknownNameError) as caught:
        installed_registry().sources.reference("onelak")
    assert caught.value.hint == "did you mean 'onelake'?"
