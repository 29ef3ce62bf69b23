"""Golden numbers, measures of error, and launches of several processes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdc_ext.networks.create import create_network

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"


class Golden:
    """Numbers produced by the original code, with their inputs."""

    def __init__(self, name: str) -> None:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            self._arrays = {key: arrays[key] for key in arrays.files}
        self.meta: dict[str, Any] = json.loads(str(self._arrays.pop("meta")))

    def __getitem__(self, key: str) -> Tensor:
        return torch.as_tensor(self._arrays[key])

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The arrays under ``prefix/``, by the rest of their names, in order."""
        keys = [k for k in self._arrays if k.startswith(f"{prefix}/")]
        return {k.removeprefix(f"{prefix}/"): self[k] for k in keys}

    def network(self) -> nn.Module:
        """The narrow ConvNet of this case with the stored parameters."""
        meta = self.meta
        classes = meta["num_classes"]
        spec = f"convnet:width={meta['net_width']}:depth={meta['net_depth']}"
        if meta.get("net_norm") == "batchnorm":
            spec += ":norm=batch"
        network = create_network(spec, meta["channel"], classes, tuple(meta["im_size"]))
        parameters = self.group("param")
        network = network.to(next(iter(parameters.values())).dtype)
        with torch.no_grad():
            for ours, stored in zip(network.parameters(), parameters.values(), strict=True):
                ours.copy_(stored)
        return network


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Largest difference relative to the largest magnitude of the reference."""
    return float((ours - reference).abs().max() / reference.abs().max())


def launch(processes: int, folder: Path, *arguments: str, told_cpu: bool = True) -> None:
    """Runs the program in several processes, in ``folder``, on CPUs if Accelerate is told so."""
    script = folder / "launch.py"
    script.write_text("import sys; from sdc_ext.cli import main; sys.exit(main())")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    subprocess.run(
        [sys.executable, *torchrun, str(script), *arguments],
        check=True,
        timeout=120,
        env={
            **{"OMP_NUM_THREADS": "1", "PATH": "", "HOME": str(folder)},
            **({"ACCELERATE_USE_CPU": "1"} if told_cpu else {}),
        },
        cwd=folder,
    )


@contextmanager
def capture() -> Iterator[io.StringIO]:
    """What is printed meanwhile, also by consoles that look for the output anew."""
    with redirect_stdout(io.StringIO()) as printed:
        yield printed
