"""Loads the real data that a command line names."""

from __future__ import annotations

from argparse import Namespace

from accelerate import Accelerator

from sdc_ext.data.real import RealData
from sdc_ext.verbs.session import open_data


def data_label(options: Namespace) -> str:
    """What [`label`][sdc_ext.data.RealData.label] will be, before the data are loaded."""
    if options.data == "imagefolder" and options.data_dir is not None:
        return f"imagefolder-{options.data_dir.resolve().name}"
    return str(options.data)


def load_chosen_data(options: Namespace, accelerator: Accelerator) -> RealData:
    """The real data, normalised as they usually are."""
    return open_data(
        options.data,
        accelerator,
        data_dir=options.data_dir,
        image_size=options.image_size,
        background=options.background,
        download=options.download,
    )
