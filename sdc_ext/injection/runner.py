"""Runs a script in this process as ``python SCRIPT`` or ``python -m MODULE`` would."""

from __future__ import annotations

import builtins
import os
import runpy
import sys
import traceback
from collections.abc import Container, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Literal

from sdc_ext.errors import DivergenceError, InjectionError, InputError
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.profiles import PROFILES, Profile
from sdc_ext.injection.reach import reachable_texts
from sdc_ext.injection.recognition import Facts, gradient_penalty, recognize
from sdc_ext.injection.repairs import Needed, needed_repairs
from sdc_ext.injection.seeding import seed_everything
from sdc_ext.injection.sources import Project, python_path


@dataclass(frozen=True)
class Script:
    """A script, the kind of loop in it, and the repairs it needs.

    Attributes:
        given: The script as the user wrote it: a path, or the name of a module.
        path: The file, absolute.
        is_module: Whether it runs as ``python -m`` would run it.
        folder: The folder that it runs in.
        project: The text of the script and of its modules.
        profile: The kind of loop; "none" for experts, None if it is not recognised.
        where: The file that the profile was recognised from.
        facts: The facts about that file.
        unreached: Whether a loop was found only in functions that the script does not name.
        repairs: The repairs that the script needs on this machine, also those that want consent.
        advice_on_folder: A sentence where the script finds its modules only in its own folder.
    """

    given: str
    path: Path
    is_module: bool
    folder: Path
    project: Project
    profile: Profile | Literal["none"] | None
    where: Path
    facts: Facts
    unreached: bool
    repairs: tuple[Needed, ...]
    advice_on_folder: str | None

    @classmethod
    def read(cls, given: str | Path, folder: Path | None = None) -> Script:
        """Reads a script and the modules of its project without executing them.

        Args:
            given: The path of the script, relative to the current folder.
            folder: The folder that it runs in; by default the current one.

        Raises:
            InputError: If there is no such file or folder, or this Python cannot parse the file.
        """
        path, folder = Path(given), _checked(folder)
        if path.is_dir():
            raise InputError(f"{path} is a folder: pass the script in it")
        if not path.is_file():
            raise InputError(f"there is no script {path}: pass its path after --")
        roots = (path.resolve().parent, *python_path())
        return cls._of(str(given), path.absolute(), False, folder, roots)

    @classmethod
    def read_module(cls, name: str, folder: Path | None = None) -> Script:
        """Reads a module that ``python -m`` can run, without executing it or its package.

        Args:
            name: The dotted name of the module, or of a package with a ``__main__``.
            folder: The folder that it runs in, where it is searched first; by default the
                current one.

        Raises:
            InputError: If there is no such folder or module, or this Python cannot parse it.
        """
        folder = _checked(folder)
        spec = _find(name, [str(folder), *sys.path[_launched() :]])
        if spec is not None and spec.submodule_search_locations is not None:
            spec = PathFinder.find_spec(f"{name}.__main__", spec.submodule_search_locations)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise InputError(
                f"python -m cannot run {name!r} in {folder}: pass the dotted name of a module, or "
                "of a package with a __main__.py, and the folder to run in as --cwd"
            )
        return cls._of(name, Path(spec.origin), True, folder, (folder, *python_path()))

    @classmethod
    def _of(
        cls, given: str, path: Path, is_module: bool, folder: Path, roots: Sequence[Path]
    ) -> Script:
        try:
            compile(path.read_bytes(), path.name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise InputError(
                f"{path.name} is not Python that this interpreter can parse: {error}; correct it, "
                "or use the interpreter that it was written for"
            ) from None
        project = Project.read(path, folder, *roots)
        texts = reachable_texts(project.sources, project.script)
        recognized = recognize(texts)
        penalty = beyond = None
        if recognized is None or recognized[1].profile == "dm":
            penalty = gradient_penalty(texts)
            beyond = recognize(project.texts) if penalty is None else None
        # A function that is chosen by a computed name may be the one that distils.
        unreached = beyond is not None and beyond[1].captures > 0
        if unreached:
            recognized = None
        profile = None if recognized is None else recognized[1].profile
        where, facts = recognized or penalty or beyond or (path, Facts())
        repairs = tuple(needed_repairs(project))
        found = (profile, where, facts, unreached, repairs, _advice_on_folder(project))
        return cls(given, path, is_module, folder, project, *found)

    @property
    def name(self) -> str:
        """A short name for files and messages; that of the package for a ``__main__.py``."""
        path = self.path
        return path.parent.name if path.stem == "__main__" else path.stem

    @property
    def evidence(self) -> str:
        """What the profile rests on, and how sure that is."""
        if self.where.resolve() == self.path.resolve():
            return f"{self.where.name}: {self.facts}"
        return f"{self.where.name}, which the script imports: {self.facts}"

    @property
    def advice_on_features(self) -> str:
        """Says how a loop that matches features is corrected, and at what price."""
        return (
            f"{self.where.name} (line {self.facts.learns_tensors}) learns tensors and asks for no "
            "gradients with create_graph=True, as loops that match features do, so the correction "
            "takes one more forward and backward pass through the synthetic images of each image "
            "step: pass --profile dm to have it"
        )

    @property
    def advice_on_profile(self) -> str:
        """Says that the script was not recognised, and which profiles there are."""
        choices = "; ".join(f"--profile {name}: {notes.what}" for name, notes in PROFILES.items())
        if self.unreached:
            return (
                f"{self.where.name} (line {self.facts.captures}) asks for gradients with "
                f"create_graph=True in a function that {self.path.name} does not name, so there "
                "may be nothing to correct: pass --profile none. If the program distils with it "
                f"nevertheless, choose one: {choices}"
            )
        if self.facts.captures:
            return (
                f"{self.where.name} (line {self.facts.captures}) asks for gradients with "
                "create_graph=True, but every optimiser of the program holds the parameters of "
                "the network that it trains, as with gradient penalties or meta-learning, so "
                "there is nothing to correct: pass --profile none. If the program learns a "
                f"distilled set nevertheless, choose one: {choices}"
            )
        return (
            f"{self.path.name} was not recognised: neither it nor the modules that it imports "
            "ask for gradients with create_graph=True in a way that is known, so there may be "
            f"nothing to correct. Choose one: {choices}; --profile none: repairs only"
        )

    def run(
        self,
        arguments: Sequence[str],
        injection: AbstractContextManager[object] | None,
        seed: int | None,
        consents: Container[str] = (),
    ) -> int:
        """Runs the script as Python itself would; call it once per process.

        Args:
            arguments: The script's command line.
            injection: A context manager that is active while the script runs; None for none.
            seed: Seeds all random numbers; None leaves them as they are.
            consents: The options that the user gave to allow repairs.

        Returns:
            The script's exit status. The script's own errors are printed as Python prints them.

        Raises:
            InjectionError: If the injection raises it.
            DivergenceError: If the injection raises it.
        """
        patches = Patches()
        for needed in self.repairs:
            if needed.repair.consent is None or needed.repair.consent in consents:
                needed.install(patches, _say)
        sys.argv = [self.given, *arguments]
        first = self.folder if self.is_module else self.path.resolve().parent
        sys.path[: _launched()] = [str(first)]
        os.chdir(self.folder)
        if seed is not None:
            seed_everything(seed, patches)
        try:
            with injection or nullcontext():
                if self.is_module:
                    runpy.run_module(self.given, run_name="__main__", alter_sys=True)
                else:
                    _run_file(self.path)
        except SystemExit as stop:
            if stop.code is None or isinstance(stop.code, int):
                return stop.code or 0
            print(stop.code, file=sys.stderr)
            return 1
        except (InjectionError, DivergenceError):
            raise
        except Exception as error:
            self._print_traceback(error)
            return 1
        finally:
            patches.undo()
        return 0

    def _print_traceback(self, error: Exception) -> None:
        """Prints a traceback as Python does, from the script's own frame on, and advice."""
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename != str(self.path):
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)
        if isinstance(error, ModuleNotFoundError) and self.advice_on_folder is not None:
            _say(self.advice_on_folder)
        for needed in self.repairs:
            if needed.repair.explains(error):
                _say(needed.advice)


def _advice_on_folder(project: Project) -> str | None:
    if not project.elsewhere:
        return None
    source, found = project.elsewhere[0]
    return (
        f"{source.name} (line {found.line}) finds the module {found.name!r} only when it "
        f"runs in its own folder: pass --cwd {os.path.relpath(project.script.parent)}"
    )


def _say(sentence: str) -> None:
    print(f"sdc-ext: {sentence}", file=sys.stderr, flush=True)


def _run_file(path: Path) -> None:
    """Executes a file as the module ``__main__``, which stays that of this process.

    Functions that run after the script, such as those of ``atexit``, find their globals in it.
    """
    main = ModuleType("__main__")
    main.__dict__.update(__file__=str(path), __builtins__=builtins)
    sys.modules["__main__"] = main
    exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), main.__dict__)


def _find(name: str, folders: Sequence[str]) -> ModuleSpec | None:
    """Finds a module without importing the packages around it."""
    spec = None
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:n]), folders)
        if spec is None:
            return None
        folders = list(spec.submodule_search_locations or [])
    return spec


def _launched() -> int:
    """Returns the number of entries of ``sys.path`` that belong to the running program."""
    return 0 if getattr(sys.flags, "safe_path", False) else 1


def _checked(folder: Path | None) -> Path:
    if folder is not None and not folder.is_dir():
        raise InputError(f"--cwd {folder} is not a folder: pass the one that the script runs in")
    return (folder or Path()).absolute()
