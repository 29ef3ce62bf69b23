"""The real data that a command line names."""

from __future__ import annotations

from argparse import Namespace

from accelerate import Accelerator

from sdc_ext.data.load import load_data
from sdc_ext.data.real import RealData


def data_label(options: Namespace) -> str:
    """What :attr:`~sdc_ext.data.RealData.label` will be, before the data are loaded."""
    if options.dataset == "imagefolder" and options.data_dir is not None:
        return f"imagefolder-{options.data_dir.resolve().name}"
    return str(options.dataset)


def load_chosen_data(options: Namespace, accelerator: Accelerator) -> RealData:
    """The real data, normalised as they usually are."""
    with accelerator.local_main_process_first():  # one process downloads, the others find it
        return load_data(
            options.dataset,
            options.data_dir,
            image_size=options.image_size,
            download=options.download,
        )
