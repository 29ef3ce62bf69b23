"""Things by name: ours, registered ones, and those of installed packages."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from sdc_ext import _registry
from sdc_ext._registry import Registry
from sdc_ext.errors import InputError


def colours() -> Registry[str]:
    return Registry("colour", "sdc_ext.colours", {"red": "#f00", "blue": "#00f"})


def offer(monkeypatch: pytest.MonkeyPatch, *offered: tuple[str, str]) -> None:
    """Stands in for an installed package with these entry points."""
    points = [EntryPoint(name, value, "sdc_ext.colours") for name, value in offered]
    monkeypatch.setattr(_registry, "entry_points", lambda group: points)


def test_registered_values_are_found_after_ours() -> None:
    registry = colours()
    registry.register("green", "#0f0")
    assert (registry.get("red"), registry.get("green")) == ("#f00", "#0f0")
    assert registry.names() == ["red", "blue", "green"]
    assert "green" in registry and "pink" not in registry


def test_unknown_name_lists_the_known_ones() -> None:
    registry = colours()
    registry.register("green", "#0f0")
    with pytest.raises(InputError, match=r"unknown colour 'gren': did you mean 'green'.*red"):
        registry.get("gren")


def test_our_names_are_taken() -> None:
    with pytest.raises(InputError, match="colour 'red' is built into sdc-ext: register yours"):
        colours().register("red", "#e00")


def test_entry_points_load_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "paint_of_a_test.py").write_text("lime = '#cf0'")
    monkeypatch.syspath_prepend(tmp_path)
    offer(monkeypatch, ("lime", "paint_of_a_test:lime"), ("red", "paint_of_a_test:lime"))
    registry = colours()
    assert registry.names() == ["red", "blue", "lime"]
    assert "paint_of_a_test" not in sys.modules
    assert (registry.get("lime"), registry.get("red")) == ("#cf0", "#f00")


def test_package_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dry_paint_of_a_test.py").write_text("raise RuntimeError('dried up')")
    monkeypatch.syspath_prepend(tmp_path)
    offer(monkeypatch, ("lime", "dry_paint_of_a_test:lime"))
    with pytest.raises(
        InputError, match=r"colour 'lime' of the package dry_paint_of_a_test .*RuntimeError: dried"
    ):
        colours().get("lime")
