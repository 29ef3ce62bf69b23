"""Golden numbers, measures of error, and processes."""

from __future__ import annotations

import atexit
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import TCPStore

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


# Seconds after which a process is stuck; one that is merely slow, on whatever machine, is not.
PATIENCE = 600

PROGRAM = "import sys; from sdc_ext.cli import main; sys.exit(main())"


def spawn(*command: object, **options: Any) -> subprocess.Popen[str]:
    """Starts a process that can be interrupted even if this one cannot, as under ``nohup``."""
    return subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def fork(
    *processes: tuple[object, ...],
    folder: Path,
    code: str = PROGRAM,
    environments: Mapping[str, str] | tuple[Mapping[str, str], ...] | None = None,
) -> list[CompletedProcess[str]]:
    """Runs ``python -c code`` once per tuple of arguments, all at the same time.

    The processes are forked from one that has imported what they need. Forking after such imports
    is safe only on Linux; elsewhere the processes are started afresh.
    """
    if environments is None:
        environments = os.environ
    if isinstance(environments, Mapping):
        environments = (environments,) * len(processes)
    arguments = [[str(argument) for argument in process] for process in processes]
    if not sys.platform.startswith("linux"):
        return _start_afresh(arguments, environments, folder, code)
    with TemporaryDirectory() as temporary:
        orders = [
            {
                "code": code,
                "arguments": own,
                "folder": str(folder),
                "seconds": PATIENCE,
                "environment": dict(environment),
                "output": f"{temporary}/{index}.out",
                "errors": f"{temporary}/{index}.err",
            }
            for index, (own, environment) in enumerate(zip(arguments, environments, strict=True))
        ]
        server = _fork_server()
        print(json.dumps(orders), file=server.stdin, flush=True)
        statuses = json.loads(server.stdout.readline())
        return [
            CompletedProcess(
                *(order["arguments"], status),
                *(Path(order[name]).read_text() for name in ("output", "errors")),
            )
            for order, status in zip(orders, statuses, strict=True)
        ]


def _start_afresh(
    arguments: list[list[str]],
    environments: tuple[Mapping[str, str], ...],
    folder: Path,
    code: str,
) -> list[CompletedProcess[str]]:
    started = [
        spawn(sys.executable, "-c", code, *own, cwd=folder, env=dict(environment))
        for own, environment in zip(arguments, environments, strict=True)
    ]
    printed = [process.communicate(timeout=PATIENCE) for process in started]
    return [
        CompletedProcess(process.args, process.returncode, *texts)
        for process, texts in zip(started, printed, strict=True)
    ]


def run_script(
    path: Path, *arguments: object, folder: Path, **environment: str
) -> CompletedProcess[str]:
    """Runs ``python path arguments`` in ``folder``, with more in its environment."""
    code = (
        "import runpy, sys; from pathlib import Path; "
        "del sys.argv[0]; sys.path[0] = str(Path(sys.argv[0]).parent); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    environments = {**os.environ, **environment}
    (done,) = fork((path, *arguments), folder=folder, code=code, environments=environments)
    return done


@cache
def _fork_server() -> subprocess.Popen[str]:
    commands = ("compare", "difficulty", "distill", "run", "tune")
    modules = [f"sdc_ext.cli.{command}" for command in commands]
    modules += ["sdc_ext.injection.runner", "torch._dynamo", "matplotlib.pyplot", "optuna"]
    # A CUDA driver does not survive a fork, and is not needed to see whether there is a GPU.
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("fork_server.py"), *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    atexit.register(server.communicate)
    return server


def launch(processes: int, folder: Path, *arguments: str, code: str = PROGRAM) -> None:
    """Runs the program in a group of processes on CPUs, all of which have to succeed."""
    finished = launched(processes, folder, *arguments, code=code)
    assert [process.returncode for process in finished] == [0] * processes, [
        process.stderr for process in finished
    ]


def launched(
    processes: int, folder: Path, *arguments: str, code: str = PROGRAM
) -> list[CompletedProcess[str]]:
    """Runs the program in a group of processes on CPUs, in ``folder``, as ``torchrun`` does."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    group = {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "ACCELERATE_USE_CPU": "1",
        "CUDA_VISIBLE_DEVICES": "",  # or barriers ask for as many GPUs as there are processes
        **alone_in(folder),
    }
    ranks = [str(rank) for rank in range(processes)]
    return fork(
        *[arguments] * processes,
        folder=folder,
        code=code,
        environments=tuple({**group, "RANK": rank, "LOCAL_RANK": rank} for rank in ranks),
    )


def torchrun(processes: int, folder: Path, *arguments: str) -> None:
    """Runs the program in several processes with ``torchrun`` itself, without forcing the CPU."""
    script = folder / "launch.py"
    script.write_text(PROGRAM)
    options = ["--standalone", "--nproc_per_node", str(processes)]
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, str(script), *arguments],
        check=True,
        timeout=PATIENCE,
        env=alone_in(folder),
        cwd=folder,
    )


def alone_in(folder: Path) -> dict[str, str]:
    """An environment that holds nothing of this process but where Python looks for packages."""
    path = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return {"OMP_NUM_THREADS": "1", "PATH": "", "HOME": str(folder), **path}


def same(one: Tensor, other: Tensor) -> None:
    """Asserts that two runs computed the same: to the bit on CPUs, and closely on GPUs.

    Backward passes of cuDNN and scattered sums add in another order every time.
    """
    if torch.cuda.is_available():
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    else:
        assert torch.equal(one, other)


def same_texts(one: object, other: object) -> None:
    """Asserts that what two runs wrote of their numbers is the same, where ``same`` is exact."""
    assert torch.cuda.is_available() or one == other


@contextmanager
def capture() -> Iterator[io.StringIO]:
    """What is printed meanwhile, also by consoles that look for the output anew."""
    with redirect_stdout(io.StringIO()) as printed:
        yield printed
