"""Loads untrusted ``.pt`` files without executing anything in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sdc_ext._reading import load_plain
from sdc_ext._values import LearntRate, kind_of
from sdc_ext.errors import InputError


def load_tensors(path: Path) -> Any:
    """Loads tensors, numbers, and plain containers of them.

    Raises:
        InputError: If there is no such file, it is damaged, or larger than its size
            on the disk, or it holds anything else.
    """
    # The accuracies in res_*.pt are numpy numbers, which weights_only refuses unless their types
    # are listed. In numpy 1, with which most files were written, the function that makes such
    # numbers had another name.
    scalar = np.float64(0).__reduce__()[0]
    numpy_numbers: list[Any] = [
        *(np.dtype, np.dtypes.Float64DType),
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
    try:
        return load_plain(path, numpy_numbers)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}: check the path") from None
    except (InputError, OSError):
        raise
    except Exception as error:  # torch reports damage in many ways, and advises what is unsafe
        reason = f" ({error})" if type(error) is ValueError else ""
        raise InputError(
            f"{path} holds no plain tensors{reason}: pass an undamaged file of the original "
            "repositories (res_*.pt, images_*.pt, labels_*.pt or lr_*.pt), or one that sdc-ext "
            "export wrote"
        ) from error


def load_tensor(path: Path) -> Tensor:
    """Loads a file with a single tensor.

    Raises:
        InputError: If ``load_tensors`` raises it, or the file holds something else.
    """
    content = load_tensors(path)
    if not isinstance(content, Tensor):
        raise InputError(
            f"{path} does not hold a single tensor: pass a file that the original script wrote"
        )
    return content.detach()


def as_rate(path: Path) -> float:
    """Loads a file with a learning rate.

    Raises:
        InputError: If it holds none above 0.
    """
    tensor = load_tensor(path)
    rate = kind_of(LearntRate).accept(float(tensor)) if tensor.numel() == 1 else None
    if rate is None:
        raise InputError(f"{path} holds no learning rate above 0: pass one as `lr`")
    return float(rate)


# The key under which a file that we export in another project's format holds our description.
OUR_KEY = "sdc_ext"
