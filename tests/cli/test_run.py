"""``sdc-ext run`` as a user types it, in processes of its own.

Most are forked from one that has imported what they need, since the imports take longer than the
rest; where it matters what a process finds imported, they are started afresh.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import sys
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from helpers import PATIENCE, fork, spawn

STANDINS = Path(__file__).parent.parent / "standins"
SCRIPTS = {"gm": "gm/main.py", "tm": "tm/distill.py", "tesla": "tesla/distill.py"}


IMPORTED = [path for path in [os.environ.get("PYTHONPATH")] if path]
PROGRAM = (sys.executable, "-m", "sdc_ext.cli", "run")


def execute(
    folder: Path, *arguments: object, afresh: bool = False, **more: str
) -> CompletedProcess[str]:
    environment = {**os.environ, "WANDB_MODE": "disabled", **more}
    if not afresh:
        (done,) = fork(("run", *arguments), folder=folder, environments=environment)
        return done
    with spawn(*PROGRAM, *arguments, cwd=folder, env=environment) as process:
        output, errors = process.communicate(timeout=PATIENCE)
    return CompletedProcess(process.args, process.returncode, output, errors)


def script(folder: Path, text: str) -> Path:
    path = folder / "project" / "main.py"
    path.parent.mkdir()
    path.write_text(text)
    return path


SHOWS_ITSELF = """\
import atexit, json, os, sys
import beside
atexit.register(lambda: print(still_here))
still_here = "the end"
main = sys.modules["__main__"]
print(json.dumps([__name__, __package__, bool(__spec__), main is sys.modules[__name__],
    os.path.realpath(__file__), main.helper.__module__ if hasattr(main, "helper") else None,
    os.getcwd(), sys.argv, sys.path[0], os.path.exists("here.txt"), beside.__file__]))
sys.exit(7)
"""


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (["--"], ["project/main.py", "--a", "b", "--", "c"]),
        (["--"], ["-m", "pkg.main", "--lam", "1"]),
        ([], ["-m", "pkg"]),
        (["--cwd", "project"], ["-m", "main", "x"]),
    ],
)
def test_a_script_runs_as_python_runs_it(
    before: list[str], words: list[str], tmp_path: Path
) -> None:
    path = script(tmp_path, SHOWS_ITSELF)
    (tmp_path / "pkg").mkdir()
    (tmp_path / "lib").mkdir()
    for name in ("pkg/main.py", "pkg/__main__.py"):
        (tmp_path / name).write_text(SHOWS_ITSELF)
    (tmp_path / "pkg/__init__.py").write_text("")
    (tmp_path / "lib/beside.py").write_text("")
    (tmp_path / "here.txt").write_text("")
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "lib"), *IMPORTED])}
    folder = tmp_path / "project" if "--cwd" in before else tmp_path
    with spawn(sys.executable, *words, cwd=folder, env={**os.environ, **environment}) as python:
        expected, _ = python.communicate(timeout=PATIENCE)
    assert python.returncode == 7 and str(path.parent.parent) in expected
    done = execute(tmp_path, "--profile", "none", *before, *words, afresh=True, **environment)
    assert done.returncode == 7, done.stderr
    assert done.stdout == expected


def test_the_folder_is_the_users_unless_another_is_chosen(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/helpers.py").write_text("")
    (tmp_path / "data.txt").write_text("")
    text = "import os, sys\nsys.path.append('../')\nfrom tools.helpers import *\n"
    path = script(tmp_path, text + "print(os.path.exists(sys.argv[1]))\n")
    advice = "'tools.helpers' only when it runs in its own folder: pass --cwd project"
    for mode in (["--dry-run"], []):
        done = execute(tmp_path, "--profile", "none", *mode, "--", "project/main.py", "data.txt")
        assert "main.py (line 3) finds the module " + advice in " ".join(done.stderr.split())
        assert done.returncode == (0 if mode else 1)
    there = ("--profile", "none", "--cwd", "project", "--", "project/main.py", "../data.txt")
    done = execute(tmp_path, *there)
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert path.parent.is_dir() and "own folder" not in done.stderr


@pytest.mark.parametrize(
    ("text", "status", "error"),
    [
        ("def f(:", 2, "main.py is not Python that this interpreter can parse: "),
        ("raise SystemExit('no data')", 1, "no data"),
        ("import sys\nsys.exit()", 0, ""),
        ("open('missing.txt')", 1, "FileNotFoundError"),
        ("def f():\n    raise ValueError('mine')\nf()", 1, "ValueError: mine"),
    ],
)
def test_its_end_is_its_own(tmp_path: Path, text: str, status: int, error: str) -> None:
    done = execute(tmp_path, "--profile", "none", "--", script(tmp_path, text))
    assert done.returncode == status
    assert error in done.stderr
    assert "runpy" not in done.stderr


def test_a_script_that_fails_early_is_not_blamed_for_correcting_nothing(tmp_path: Path) -> None:
    done = execute(tmp_path, "--profile", "gm", "--", script(tmp_path, "open('missing.txt')"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("FileNotFoundError")
    done = execute(tmp_path, "--", STANDINS / SCRIPTS["gm"], "--Iteration", 0)
    assert done.returncode == 2
    assert "nothing was corrected" in done.stderr


@pytest.mark.parametrize("profile", SCRIPTS)
def test_observing_leaves_the_images_as_they_are(profile: str, tmp_path: Path) -> None:
    path = STANDINS / SCRIPTS[profile]
    images = []
    strong = ["--lam", "0.25", "--scale", "2", "--norm", "l2_squared", "--reduction", "sum"]
    for mode in (["--profile", "none"], ["--observe"], [*strong, "--no-strict"]):
        file = tmp_path / f"images{len(images)}.pt"
        command = (*mode, "--seed", 3, "--", path, "--save", file)
        done = execute(tmp_path, *command, afresh=mode[0] == "--lam")
        assert done.returncode == 0, done.stderr
        images.append(torch.load(file))
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert f"profile {profile}; lam 0.25, norm l2_squared, sum, scale 2" in done.stderr
    name = path.stem
    assert (tmp_path / f"runs/{name}.png").read_bytes()[:4] == b"\x89PNG"
    for record, lam in ((name, 0.0), (f"{name}-2", 0.25)):  # the second run found a free name
        with (tmp_path / f"runs/{record}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [float(row["lam"]) for row in rows] == [lam, lam]
        assert all(float(row["difficulty"]) > 0 for row in rows)


@pytest.mark.parametrize("strength", [("--lam", 0), ("--share", 0), ("--observe",)])
def test_zero_is_no_correction(strength: tuple[object, ...], tmp_path: Path) -> None:
    record = tmp_path / "record.csv"
    done = execute(tmp_path, *strength, "--record", record, "--", STANDINS / SCRIPTS["gm"])
    assert done.returncode == 0 and "hardly" not in done.stderr
    with record.open(newline="") as file:
        assert {float(row["lam"]) for row in csv.DictReader(file)} == {0.0}


@pytest.mark.parametrize("profile", SCRIPTS)
def test_a_share_takes_the_place_of_lam(profile: str, tmp_path: Path) -> None:
    path, record = STANDINS / SCRIPTS[profile], tmp_path / "share.csv"
    command = ("--share", 0.1, "--seed", 3, "--record", record, "--", path, "--Iteration", 3)
    done = execute(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert f"profile {profile}; share 0.1, norm l2" in done.stderr
    with record.open() as file:
        rows = list(csv.DictReader(file))
    shares, lams, cosines = (
        [float(row[name]) for row in rows] for name in ("share", "lam", "cosine")
    )
    late = int(profile == "tesla")  # which has no lam before its second image step
    assert shares == pytest.approx([0.1] * 3 if not late else [0.0, 0.1, 0.1])
    assert [lam > 0 for lam in lams] == [not late, True, True]
    # The mean is that of the steps that were corrected.
    said = f"share is 10 % of the matching loss's image gradient, cosine {cosines[0]:+.2f}"
    assert said in done.stderr


def test_a_correction_that_can_hardly_have_acted_is_pointed_out(tmp_path: Path) -> None:
    done = execute(tmp_path, "--lam", 1e-6, "--", STANDINS / SCRIPTS["gm"])
    assert "the correction can hardly have acted: its image gradient was " in done.stderr
    ramp = execute(tmp_path, "--share-ramp", 0.1, 0.2, 2, "--", STANDINS / SCRIPTS["gm"])
    assert "share 0.1 to 0.2 in 2," in ramp.stderr
    assert "hardly" not in ramp.stderr


def test_the_seed_covers_the_clock(tmp_path: Path) -> None:
    text = "import time, torch\nprint(time.time(), torch.rand(()).item())\n"
    path = script(tmp_path, text)
    runs = [
        execute(tmp_path, "--profile", "none", "--seed", seed, "--", path) for seed in (1, 1, 2)
    ]
    first, second, third = (run.stdout for run in runs)
    assert first == second != third


def test_what_only_prints_its_help_has_nothing_to_correct(tmp_path: Path) -> None:
    done = execute(tmp_path, "--", STANDINS / SCRIPTS["gm"], "--help")
    assert done.returncode == 0
    assert "--lr_img" in done.stdout


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    path = STANDINS / SCRIPTS["tm"]
    done = execute(tmp_path, "--dry-run", "--lam-ramp", 0.02, 0.08, 100, "--", path)
    assert done.returncode == 0
    assert not list(tmp_path.iterdir())
    for text in (
        "profile: tm",
        "distill.py: captures (line 39), backward (line 45), unrolls (line 40)",
        "torch.autograd.grad",
        "repair wandb: ",
        "lam 0.02 to 0.08 in 100,",
    ):
        assert text in done.stderr


def test_experts_of_a_machine_without_a_gpu_differ_from_epoch_to_epoch(tmp_path: Path) -> None:
    command = ["--", STANDINS / "buffer.py", tmp_path / "buffer.pt"]
    done = execute(tmp_path, *command, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0
    assert done.stderr.count("repaired experts: there is no GPU") == 1
    (timestamps,) = torch.load(tmp_path / "buffer.pt")
    assert len({float(epoch[0].sum()) for epoch in timestamps}) == 4


def test_repairs_are_said_once_where_they_take_effect(tmp_path: Path) -> None:
    text = (
        "import torch\nimport numpy as np\nimport wandb\nimport not_installed\n"
        "for _ in range(3):\n    x = torch.ones(2).cuda().new_zeros(2, device='cuda')\n"
        "    print(x.device, np.Inf, wandb.init(config={'a': 1}).config.a)\n"
        "def unused():\n    return torch.linalg.norm(x, dim=(1, 2, 3)), not_installed.f()\n"
    )
    path = script(tmp_path, text)
    done = execute(tmp_path, "--profile", "none", "--", path, CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stdout) == (0, "cpu inf 1\n" * 3)
    said = re.findall(r"^sdc-ext: repaired (\w+): ", done.stderr, re.MULTILINE)
    assert sorted(said) == ["absent", "gpu", *["names"] * (not hasattr(np, "Inf")), "wandb"]


def test_old_files_are_read_with_consent_alone(tmp_path: Path) -> None:
    text = (
        "import torch\nclass Old: pass\ntorch.save(Old(), 'old.pt')\n"
        "print(type(torch.load('old.pt')).__name__)\n"
    )
    path = script(tmp_path, text)
    refused = execute(tmp_path, "--profile", "none", "--", path)
    assert refused.returncode == 1
    assert "pass --trust-pickles if you trust the files" in refused.stderr.splitlines()[-1]
    allowed = execute(tmp_path, "--profile", "none", "--trust-pickles", "--", path)
    assert (allowed.returncode, allowed.stdout) == (0, "Old\n")
    assert "repaired pickles: " in allowed.stderr


@pytest.mark.parametrize(
    ("text", "options", "status", "lines"),
    [
        ("print('never')", ["--profile", "none"], 0, ["profile: none, as chosen"]),
        ("", [], 2, ["stands in the way: main.py was not recognised"]),
        (
            "import not_there\nnot_there.f()",
            ["--profile", "none"],
            2,
            ["stands in the way: the package not_there is not installed; main.py line 1"],
        ),
        (
            "import torch\ntorch.rfft(x)\nx.cuda()",
            ["--profile", "none"],
            2,
            [
                "stands in the way: torch.rfft does not exist in the library here; main.py line 2",
                "repaired where it is met: gpu: there is no GPU; the CPU takes its place (.cuda(), "
                "main.py line 3)",
            ],
        ),
        (
            "import cv2_, torch\ndef f():\n    return cv2_.imread(torch.load('x'))",
            ["--profile", "none"],
            0,
            [
                "may stand in the way: the package cv2_ is not installed; main.py line 1",
                "may stand in the way: torch.load refuses files",
            ],
        ),
        (
            "import torch\ntorch.load('x')",
            ["--profile", "none", "--trust-pickles"],
            0,
            ["repaired where it is met: pickles: "],
        ),
        (
            "import sys\nsys.path.append('../')\nimport above",
            ["--profile", "none"],
            2,
            ["stands in the way: main.py (line 3) finds the module 'above' only when it runs"],
        ),
    ],
)
def test_a_check_says_what_stands_in_the_way(
    text: str, options: list[str], status: int, lines: list[str], tmp_path: Path
) -> None:
    path = script(tmp_path, text)
    (tmp_path / "above.py").write_text("")
    command = ("--check", *options, "--", path, "--ipc", 1)
    done = execute(tmp_path, *command, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == status
    printed = done.stdout.splitlines()
    for line in lines:
        assert any(one.startswith(line) for one in printed), done.stdout
    assert ("main.py can start here" in printed) == (status == 0)
    assert not (tmp_path / "runs").exists()


def test_a_gradient_penalty_is_said_to_be_no_distillation(tmp_path: Path) -> None:
    path = STANDINS / "penalties/wgan_gp.py"
    done = execute(tmp_path, "--", path)
    assert done.returncode == 2
    assert "nothing to correct: pass --profile none" in done.stderr
    assert execute(tmp_path, "--profile", "none", "--", path).returncode == 0


def test_a_tuple_that_is_doubled_is_pointed_out(tmp_path: Path) -> None:
    text = (STANDINS / SCRIPTS["tesla"]).read_text()
    old = "image_grads += torch.autograd.grad(term, x_i)[0]"
    assert old in text
    path = script(
        tmp_path, text.replace(old, "image_grads += (2 * torch.autograd.grad(term, x_i))[0]")
    )
    assert "--scale 0.5" in execute(tmp_path, "--dry-run", "--", path).stderr
    scaled = execute(tmp_path, "--dry-run", "--scale", 0.5, "--", path)
    assert "restores the balance" not in scaled.stderr


def test_divergence_saves_what_was_learnt(tmp_path: Path) -> None:
    path = STANDINS / SCRIPTS["gm"]
    done = execute(tmp_path, "--seed", 0, "--", path, "--Iteration", 9, "--lr_img", "inf")
    assert done.returncode == 3
    assert "lower lam or the learning rate" in done.stderr
    (images,) = torch.load(tmp_path / "runs/main-learnt.pt")
    assert images.shape == (3, 1, 4, 4)
    assert images.isfinite().all()
    assert (tmp_path / "runs/main.csv").is_file()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_keeps_the_record(number: int, status: int, tmp_path: Path) -> None:
    text = (STANDINS / SCRIPTS["tesla"]).read_text()
    text = text.replace("            optimizer_lr.step()", "            print('step', flush=True)")
    text = text.replace("print(f", "str(f")
    path = script(tmp_path, text)
    with spawn(*PROGRAM, "--", path, "--Iteration", 10**6, cwd=tmp_path) as process:
        try:
            assert process.stdout.readline() == "step\n"
            process.send_signal(number)
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == status
    assert "Traceback" not in errors
    assert (tmp_path / "runs/main.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lam", "0.1"], "no script: write it after --"),
        (["--", "missing.py"], "there is no script missing.py"),
        (["-m"], "python -m cannot run '' in "),
        (["-m", "missing.module"], "python -m cannot run 'missing.module' in .*--cwd"),
        (["--cwd", "missing", "--", STANDINS / "gm/main.py"], "--cwd missing is not a folder"),
        (["--lam", "-1", "--", STANDINS / "gm/main.py"], "--lam must be 0, or a number from"),
        (["--lam", "1", "--observe", "--", "x.py"], "not allowed with argument"),
        (["--lam-ramp", "0.1", "0.2", "1.5", "--", STANDINS / "gm/main.py"], "whole number"),
        (
            ["--lam-ramp", "0", "0.2", "1", "--", STANDINS / "gm/main.py"],
            "START of --lam-ramp must be a number from 1e-30 to .*, got 0",
        ),
        (["--share", "-1", "--", STANDINS / "gm/main.py"], "--share must be 0, or a number from"),
        (["--share", "1", "--lam", "1", "--", "x.py"], "not allowed with argument"),
        (["--share-ramp", "0.1", "0.2", "1.5", "--", STANDINS / "gm/main.py"], "whole number"),
        (
            ["--share-ramp", "0", "0.2", "1", "--", STANDINS / "gm/main.py"],
            "START of --share-ramp must be a number from 1e-30 to .*, got 0",
        ),
        (
            ["--share-ramp", "0.1", "0.2", "0", "--", STANDINS / "gm/main.py"],
            "ITERATIONS of --share-ramp must be a whole number from 1 to .*, got 0",
        ),
        (
            ["--profile", "none", "--share-ramp", "1", "2", "3", "--", STANDINS / "buffer.py"],
            "corrects and records nothing: leave --share-ramp out",
        ),
        *(
            (
                ["--profile", "none", *option, "--", STANDINS / "buffer.py"],
                f"--profile none corrects and records nothing: leave {option[0]} out$",
            )
            for option in (
                ["--record", "new.csv"],
                ["--norm", "l2"],
                ["--reduction", "sum"],
                ["--scale", "0.5"],
                ["--no-strict"],
                ["--observe"],
            )
        ),
        (
            ["--observe", "--scale", "0.5", "--", STANDINS / "gm/main.py"],
            "--observe adds no term that --scale could shape: leave --scale out$",
        ),
        (["--", STANDINS], "is a folder: pass the script in it"),
        (["--record", "taken.txt", "--", STANDINS / "gm/main.py"], "must end in .csv"),
        (["--record", "other.csv", "--", STANDINS / "gm/main.py"], "other.png exists"),
        (["--", STANDINS / "gm/utils.py"], "was not recognised: .*--profile tesla: "),
        (["--profile", "tm", "--", STANDINS / "gm/main.py"], "use the profile 'gm'"),
        (["--record", "taken.csv", "--", STANDINS / "gm/main.py"], "taken.csv exists"),
    ],
)
def test_bad_input(
    arguments: list[object], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken.csv").write_text("kept")
    (tmp_path / "other.png").write_text("kept")
    done = execute(tmp_path, *arguments)
    assert done.returncode == 2
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("sdc-ext: ")][-1:]
    assert re.search(message, line)
    assert "Traceback" not in done.stderr
    assert (tmp_path / "taken.csv").read_text() == "kept"


MATCHES_FEATURES = """\
import torch
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
label_syn = torch.arange(3)
image_syn = torch.rand(3, 1, 4, 4, requires_grad=True)
optimizer = torch.optim.SGD([image_syn, ], lr=0.1)
for _ in range(2):
    loss = net(image_syn).mean(0).square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_matched_features_are_corrected_if_asked_for(tmp_path: Path) -> None:
    path = script(tmp_path, MATCHES_FEATURES)
    price = "one more forward and backward pass through the synthetic images of each image step"
    done = execute(tmp_path, "--", path)
    assert (done.returncode, list(tmp_path.glob("runs/*"))) == (0, [])
    assert "main.py (line 5) learns tensors" in done.stderr
    assert price in done.stderr and "pass --profile dm" in done.stderr
    for given in (["--lam", "0.1"], ["--share", "0.1"], ["--observe"], ["--record", "new.csv"]):
        done = execute(tmp_path, *given, "--", path)
        assert done.returncode == 2
        assert price in done.stderr and f"or leave {given[0]} out" in done.stderr
    done = execute(tmp_path, "--share", "0.1", "--profile", "dm", "--", path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "runs/main.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and float(rows[0]["share"]) == pytest.approx(0.1)
