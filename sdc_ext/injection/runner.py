"""Runs a script in this process as ``python SCRIPT`` would."""

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
    """A script, the kind of loop in it, and the repairs it needs.

    Attributes:
        path: The file.
        profile: The kind of loop; "none" for experts, None if it is not recognised.
        where: The file that the profile was recognised from.
        facts: The facts about that file.
        shims: The repairs that the script needs on this machine.
    """

    path: Path
    profile: Profile | Literal["none"] | None
    where: Path
    facts: Facts
    shims: tuple[Shim, ...]

    @classmethod
    def read(cls, path: Path) -> Script:
        """Reads a script and the modules of its project without executing them.

        Raises:
            InputError: If there is no such file, or this Python cannot parse it.
        """
        if path.is_dir():
            raise InputError(f"{path} is a folder: pass the script in it")
        if not path.is_file():
            raise InputError(f"there is no script {path}: pass its path after --")
        path = path.resolve()
        try:
            compile(path.read_bytes(), path.name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise InputError(
                f"{path.name} is not Python that this interpreter can parse: {error}; correct it, "
                "or use the interpreter that it was written for"
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
        """Runs the script as ``python SCRIPT ARGUMENTS`` in its folder; call it once per process.

        Args:
            arguments: The script's command line.
            injection: A context manager that is active while the script runs; None for none.
            seed: Seeds all random numbers; None leaves them as they are.

        Returns:
            The script's exit status. The script's own errors are printed as Python prints them.

        Raises:
            InjectionError: If the injection raises it.
            DivergenceError: If the injection raises it.
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
    """Prints a traceback as Python does, from the script's own frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != str(path):
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)
