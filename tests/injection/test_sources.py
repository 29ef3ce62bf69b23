from __future__ import annotations

from pathlib import Path

import pytest

from sdc_ext.injection.sources import Project


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(project: Project) -> set[str]:
    return {path.name for path in project.sources}


def test_a_project_is_followed_but_not_its_libraries(tmp_path: Path) -> None:
    (tmp_path / "distill").mkdir()
    (tmp_path / "utils").mkdir()
    script = tmp_path / "distill" / "main.py"
    script.write_text(
        "import sys\nsys.path.append('../')\nimport torch\nfrom utils.helpers import f\n"
        "import networks as n\nimport beside\n"
    )
    for name in ("utils/helpers.py", "networks.py", "distill/beside.py", "distill/unused.py"):
        (tmp_path / name).write_text("import main\n")
    project = Project.read(script)
    assert names(project) == {"main.py", "helpers.py", "networks.py", "beside.py"}
    assert [(found.name, found.line) for _, found in project.foreign] == [("sys", 1), ("torch", 3)]
    assert project.elsewhere == []


def test_a_byte_order_mark_is_no_part_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text("import torch\n", "utf-8-sig")
    assert [found.name for _, found in Project.read(script).foreign] == ["torch"]


@pytest.mark.parametrize(
    "addition",
    [
        "os.path.join(os.path.dirname(__file__), '..')",
        "os.path.dirname(os.path.dirname(os.path.abspath(__file__)))",
        "os.path.join(here, os.pardir)",
        "str(Path(__file__).resolve().parent.parent)",
        "str(Path(__file__).resolve().parents[1])",
        "Path(here) / '..'",
        "here + '/..'",
    ],
)
def test_folders_that_a_script_computes_are_searched(addition: str, tmp_path: Path) -> None:
    text = f"import os, sys\nhere = os.path.dirname(__file__)\nsys.path.insert(0, {addition})\n"
    write(tmp_path, a__in__main=text + "import above", above="")
    project = Project.read(tmp_path / "a/main.py", tmp_path)
    assert names(project) == {"main.py", "above.py"}
    assert project.elsewhere == []


def test_packages_are_followed_with_their_relative_imports(tmp_path: Path) -> None:
    write(
        tmp_path,
        pkg__in____init__="from .early import x",
        pkg__in__early="",
        pkg__in__main="from . import near\nfrom .sub.deep import y\nfrom pkg import far",
        pkg__in__near="",
        pkg__in__far="",
        pkg__in__sub__in____init__="",
        pkg__in__sub__in__deep="from ..last import z",
        pkg__in__last="",
    )
    project = Project.read(tmp_path / "pkg/main.py", tmp_path, tmp_path)
    found = {str(path.relative_to(tmp_path.resolve())) for path in project.sources}
    inner = ("__init__", "early", "main", "near", "far", "sub/__init__", "sub/deep", "last")
    assert found == {f"pkg/{name}.py" for name in inner}
    assert project.foreign == []


def test_an_import_that_needs_the_scripts_folder_is_noted(tmp_path: Path) -> None:
    text = "import sys\nsys.path.append('../')\nfrom utils.helpers import f\n"
    write(tmp_path, distill__in__main=text, utils__in__helpers="")
    here = Project.read(tmp_path / "distill/main.py", tmp_path)
    assert [(found.name, found.line) for _, found in here.elsewhere] == [("utils.helpers", 3)]
    assert names(here) == {"main.py", "helpers.py"}
    assert Project.read(tmp_path / "distill/main.py").elsewhere == []


def test_imports_that_may_not_run_are_not_sure(tmp_path: Path) -> None:
    text = (
        "import a\nif __name__ == '__main__':\n    import b\n"
        "try:\n    import c\nexcept ImportError:\n    pass\n"
        "def f():\n    import d\nclass K:\n    import e\nif flag:\n    import g\n"
    )
    project = Project.read(write(tmp_path, main=text) / "main.py")
    assert {found.name: found.sure for _, found in project.foreign} == {
        **dict.fromkeys("abe", True),
        **dict.fromkeys("cdg", False),
    }
