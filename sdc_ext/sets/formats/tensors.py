"""Strangers' ``.pt`` files, read without executing anything in them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdc_ext.errors import InputError


def load_tensors(path: Path) -> Any:
    """Tensors, numbers and plain containers of them.

    Raises:
        InputError: if there is no such file, it is damaged, or it holds anything else.
    """
    # The originals' accuracies are numpy numbers, which weights_only refuses unless named, and
    # numpy 1, with which most were written, had another name for what makes them.
    scalar = np.float64(0).__reduce__()[0]
    numpy_numbers: list[Any] = [
        *(np.dtype, np.dtypes.Float64DType),
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
    try:
        with torch.serialization.safe_globals(numpy_numbers), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of what it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError:
        raise
    except Exception as error:  # torch reports damage in many ways, and advises what is unsafe
        raise InputError(
            f"{path} is not a file of the originals (res_*.pt, images_*.pt and its like), or is "
            "damaged: it holds no plain tensors"
        ) from error


# Where a file of theirs that we write holds what we know of the set.
OUR_KEY = "sdc_ext"
