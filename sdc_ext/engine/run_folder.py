"""The folder of a run, and the check whether a run may begin or continue there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from sdc_ext._files import as_text, check_place, hold, is_free, write_whole
from sdc_ext._schemas import read_json
from sdc_ext.adapters.base import Method
from sdc_ext.adapters.settings import Settings
from sdc_ext.adapters.task import Task
from sdc_ext.errors import InputError
from sdc_ext.sets.synthetic_set import RUN

# Where trackers write, before a run begins.
_LOGS = "logs"

# The key of the experts, which may not be trained yet.
_EXPERTS = "experts"

# Runs of earlier versions do not have both of these keys.
FINGERPRINTS = ("fingerprint", "test_fingerprint")


def run_identity(method: Method, settings: Settings, task: Task, seed: int) -> dict[str, Any]:
    """Returns JSON values that differ between this run and others, which cannot continue it."""
    data, experts = task.data, task.experts
    identity = {
        "method": method.name,
        "dataset": data.name,
        "images": data.train.images.shape,
        # Other data may have the same name; what follows is said of them only after this.
        **dict(zip(FINGERPRINTS, (data.train.fingerprint, data.test.fingerprint), strict=True)),
        "mean": data.mean,
        "std": data.std,
        "classes": data.classes,
        "ipc": task.ipc,
        "seed": seed,
        "mixed_precision": task.accelerator.mixed_precision,
        "compile": task.compile,
        "whitening": data.whitened_by,
        _EXPERTS: None if experts is None else experts.identity,
        **{name: setting.value for name, setting in settings.origin.items()},
    }
    return dict(json.loads(json.dumps(identity)))


@contextmanager
def held(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """Keeps other commands from writing to a folder of runs meanwhile.

    Args:
        folder: The folder of a run, or of several.
        accelerator: The processes of this command, all of which have to call this.

    Raises:
        InputError: If another command is writing to the folder.
    """
    with ExitStack() as stack:
        accelerator.wait_for_everyone()  # others may still look whether the folder is free
        problem: list[str | None] = [None]
        if accelerator.is_main_process:
            try:
                stack.enter_context(hold(folder))
            except InputError as error:
                problem = [str(error)]
        if accelerator.num_processes > 1:
            broadcast_object_list(problem)
        if problem[0] is not None:
            raise InputError(problem[0])
        yield


@dataclass(frozen=True)
class RunFolder:
    """The folder that a run writes to.

    Attributes:
        path: The path of the folder.
        identity: The identity of the run; see ``run_identity``. Experts that are None are not
            trained yet and not compared.
    """

    path: Path
    identity: Mapping[str, Any]

    def check(self, *, resume: bool) -> None:
        """Raises InputError unless the folder is free, or holds this run and it is resumed.

        A folder is also free if a run in it ended before there was anything to keep.
        """
        if self._is_free():
            check_place(self.path)
        elif resume and (self.path / RUN).is_file():
            self._check_same()
        else:
            problem = (
                "holds no run to resume" if resume else "exists (`resume=True` continues a run)"
            )
            raise InputError(f"{self.path} {problem}: choose another `out`")

    def _is_free(self) -> bool:
        return is_free(self.path, besides={RUN, _LOGS})

    def claim(self) -> None:
        """Writes the identity of the run into the folder."""
        write_whole(self.path / RUN, self.write)

    def write(self, path: Path) -> None:
        """Writes the identity of the run to a file."""
        as_text(json.dumps(self.identity, indent=1))(path)

    def _check_same(self) -> None:
        path = self.path / RUN
        earlier = read_json(path, dict[str, Any], "choose another `out`")
        for name, value in self.identity.items():
            if name not in earlier and name not in FINGERPRINTS:
                raise InputError(
                    f"{self.path} holds a run of another version of sdc-ext, which did not record "
                    f"{name}: choose another `out`"
                )
            is_open = name == _EXPERTS and value is None
            if is_open or earlier.get(name, value) == value:
                continue
            if name in FINGERPRINTS:
                raise InputError(
                    f"{self.path} holds a run on other data with the name "
                    f"{self.identity['dataset']!r}: pass those data, or choose another `out`"
                )
            raise InputError(
                f"{self.path} holds a run with {name} {earlier[name]}, not {value}: resume with "
                "the same settings, or choose another `out`"
            )
