"""Runs somebody's script as Python would, in this process."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sdc_ext.errors import DivergenceError, InjectionError, InputError
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.profiles import Profile
from sdc_ext.injection.recognition import Facts, project_sources, recognize
from sdc_ext.injection.seeding import seed_everything
from sdc_ext.injection.shims import Shim, needed_shims


@dataclass(frozen=True)
class Script:
    """A script, what its source says and what it needs here.

    Attributes:
        path: the file.
        profile: which kind of loop it is, "none" for experts, None if nothing says.
        where: the file that says it.
        facts: what that file does.
        shims: the repairs that it needs on this machine.
    """

    path: Path
    profile: Profile | Literal["none"] | None
    where: Path
    facts: Facts
    shims: tuple[Shim, ...]

    @classmethod
    def read(cls, path: Path) -> Script:
        """Reads a script and its project; nothing of it is executed.

        Raises:
            InputError: if there is no such file, or it is no Python.
        """
        if path.is_dir():
            raise InputError(f"{path} is a folder: name the script in it")
        if not path.is_file():
            raise InputError(f"there is no script {path}: give its path after --")
        path = path.resolve()
        try:
            compile(path.read_bytes(), path.name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise InputError(
                f"{path.name} is no Python that this interpreter reads: {error}"
            ) from None
        sources = project_sources(path)
        where, facts = recognize(sources) or (path, Facts())
        shims = tuple(needed_shims("\n".join(sources.values())))
        return cls(path, facts.profile, where, facts, shims)

    def run(
        self,
        arguments: Sequence[str],
        injection: AbstractContextManager[object] | None,
        seed: int | None,
    ) -> int:
        """Runs it as ``python SCRIPT ARGUMENTS`` in its folder would; once a process.

        Args:
            arguments: its command line.
            injection: entered around it.
            seed: for all random numbers; None leaves them as they are.

        Returns:
            Its exit status. Its own errors are printed as Python prints them.

        Raises:
            InjectionError, DivergenceError: from the injection.
        """
        patches = Patches()
        for shim in self.shims:
            shim.install(patches)
        sys.argv = [str(self.path), *arguments]
        launched = 0 if getattr(sys.flags, "safe_path", False) else 1
        sys.path[:launched] = [str(self.path.parent)]
        os.chdir(self.path.parent)
        if seed is not None:
            seed_everything(seed, patches)
        try:
            with injection or nullcontext():
                runpy.run_path(str(self.path), run_name="__main__")
        except SystemExit as stop:
            if stop.code is None or isinstance(stop.code, int):
                return stop.code or 0
            print(stop.code, file=sys.stderr)
            return 1
        except (InjectionError, DivergenceError):
            raise
        except Exception as error:
            _print_traceback(error, self.path)
            return 1
        finally:
            patches.undo()
        return 0


def _print_traceback(error: Exception, path: Path) -> None:
    """As Python prints it, from the script on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != str(path):
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)
