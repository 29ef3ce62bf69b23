"""Presenting results: terminal tables, figures, and a self-contained HTML page."""

from sdc_ext.report.html_page import write_report as write_report

__all__ = [
    "write_report",
]
