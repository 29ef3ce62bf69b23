"""Renders the HTML pages of the library, which need no other files."""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from sdc_ext._text import visible


def render(template: str, **content: Any) -> str:
    """Returns a page.

    Args:
        template: The name of its template in this package, e.g. ``"report"``.
        **content: What the template inserts.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_as_text,
        loader=jinja2.FunctionLoader(_source),
    )
    page = environment.get_template(f"{template}.html.j2")
    return page.render(version=version("sdc-ext"), **content)


def _source(name: str) -> str:
    return (files("sdc_ext.report") / name).read_text(encoding="utf-8")


def _as_text(value: Any) -> Any:
    """Returns what a template inserts for a value: text of others without control characters."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return visible(value) if is_text else value
