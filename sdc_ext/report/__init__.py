"""What people look at: tables, figures, and the page."""

from sdc_ext.report.html_page import write_report as write_report

__all__ = [
    "write_report",
]
