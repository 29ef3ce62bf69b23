"""Repairs that let scripts run with today's libraries, without packages, and without a GPU.

A repair is applied only where its cause is found, on this machine and in the source of the
script. None of them is there to change a result.
"""

from __future__ import annotations

from sdc_ext.injection.repairs import absent, calls, gpu, moved, standins
from sdc_ext.injection.repairs.absent import missing_packages as missing_packages
from sdc_ext.injection.repairs.moved import lost_names as lost_names
from sdc_ext.injection.repairs.repair import Needed as Needed
from sdc_ext.injection.repairs.repair import Place as Place
from sdc_ext.injection.repairs.repair import Repair as Repair
from sdc_ext.injection.sources import Project

REPAIRS: tuple[Repair, ...] = (
    *gpu.REPAIRS,
    *moved.REPAIRS,
    *standins.REPAIRS,
    *absent.REPAIRS,
    *calls.REPAIRS,
)


def needed_repairs(project: Project) -> list[Needed]:
    """Returns the repairs that a project needs on this machine, also those that want consent."""
    found = ((repair, repair.find(project)) for repair in REPAIRS)
    return [Needed(repair, places) for repair, places in found if places]
