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

from sdc_ext.corrections import InjectionError
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.patches import Patches
from sdc_ext.recognition import Facts, Profile, project_sources, recognize
from sdc_ext.shims import Shim, needed_shims, seed_everything


@dataclass(frozen=True)
class Script:
    """A script, what its source says and what it needs here.

    Attributes:
        path: the file.
        profile: which kind of loop it is, None if no file of its project says.
        where: the file that says it.
        facts: what that file does.
        shims: the repairs that it needs on this machine.
    """

    path: Path
    profile: Profile | None
    where: Path
    facts: Facts
    shims: tuple[Shim, ...]

    @classmethod
    def read(cls, path: Path) -> Script:
        """Reads a script and its project; nothing of it is executed.

        Raises:
            InputError: if there is no such file.
        """
        if not path.is_file():
            raise InputError(f"there is no script {path}: give its path after --")
        path = path.resolve()
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
        sys.path.insert(0, str(self.path.parent))
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
    traceback.print_exception(type(error), error, frames or error.__traceback__)
