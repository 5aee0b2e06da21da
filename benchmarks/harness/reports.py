"""What is made of the rows of each subcommand."""

from __future__ import annotations

from ..measures import agreement, kernel_times, kernels, scaling, startup
from . import tables as report
from .records import Report

REPORTS = {
    "end-to-end": Report(report.end_to_end, report.draw_stages),
    "stages": Report(report.stages, report.draw_stages),
    "kernels": Report(kernels.table),
    "kernel-times": Report(kernel_times.table),
    "scaling": Report(scaling.table, scaling.draw),
    "startup": Report(startup.table),
    "agreement": Report(agreement.table),
}
