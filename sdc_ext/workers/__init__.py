"""Carries out independent cells side by side: runs of a comparison, networks of an evaluation.

Verbs take a number of processes of this machine, or an executor that reaches other machines. This
package packs the cells, hands them to the executor, and repeats those whose worker was lost.
"""

from sdc_ext.workers.executors import choose_workers as choose_workers
from sdc_ext.workers.launch import map_in_launch as map_in_launch
from sdc_ext.workers.pool import SERIAL as SERIAL
from sdc_ext.workers.pool import Serial as Serial
from sdc_ext.workers.pool import Workers as Workers
from sdc_ext.workers.progress import Steps as Steps

__all__ = ["SERIAL", "Serial", "Steps", "Workers", "choose_workers", "map_in_launch"]
