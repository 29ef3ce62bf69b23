from __future__ import annotations

from pathlib import Path

import pytest

from sdc_ext.injection.recognition import gradient_penalty, read_facts, recognize
from sdc_ext.injection.runner import Script
from sdc_ext.injection.sources import Project

STANDINS = Path(__file__).parent.parent / "standins"
PENALTIES = STANDINS / "penalties"

CAPTURE = "g = torch.autograd.grad(loss, params, create_graph=True)[0]\n"


@pytest.mark.parametrize(
    ("script", "profile"),
    [("gm/main.py", "gm"), ("tm/distill.py", "tm"), ("tesla/distill.py", "tesla")],
)
def test_stand_ins_are_recognised(script: str, profile: str) -> None:
    where, facts = recognize(Project.read(STANDINS / script).texts)
    assert facts.profile == profile
    assert where == STANDINS / script


@pytest.mark.parametrize(
    ("source", "profile"),
    [
        (CAPTURE + "loss.backward()", "gm"),
        (CAPTURE + "match_loss(g, real).backward()", "gm"),
        (CAPTURE + "d = ((g - real) ** 2).sum()\nd.backward()", "gm"),
        (CAPTURE + "torch.autograd.backward(loss)", "gm"),
        (CAPTURE + "params = params - lr * g\nloss.backward()", "tm"),
        (CAPTURE + "params = [p - lr * d for p, d in zip(params, g)]\nloss.backward()", "tm"),
        (CAPTURE + "params = [q - lr * p for q, p in zip(real, x)]\nloss.backward()", "gm"),
        (CAPTURE + "new = {k: p - lr * g[k] for k, p in old.items()}\nloss.backward()", "tm"),
        (CAPTURE + "for p, d in zip(old, g):\n    new.append(p - lr * d)\nloss.backward()", "tm"),
        (CAPTURE + "a.grad, b.grad = torch.autograd.grad(loss, [a, b])", "gm"),
        ("g = torch.func.grad(f)(params)\nmatch(g).backward()", "gm"),
        ("step = torch.func.grad(f)\ng = step(p)\np = p - lr * g\nd(p).backward()", "tm"),
        ("from torch.func import grad as d\ng = d(f)(p)\np = p - lr * g\nl.backward()", "tm"),
        ("from torch.autograd import grad\ng = grad(loss, p)\nloss.backward()", None),
        ("loss.backward(create_graph=True)\nmatch(net).backward()", "gm"),
        ("loss.backward(create_graph=True)", None),
        (CAPTURE + "d = torch.autograd.grad((g,), [w, x], grad_outputs=(dw,))", "tesla"),
        (CAPTURE + "d = torch.autograd.grad(g, [w, x], dw)\nloss.backward()", "tesla"),
        (CAPTURE + "d = torch.autograd.grad(loss, [w, x], dw)\nloss.backward()", "gm"),
        (CAPTURE + "net(x, flat_param=params)\nloss.backward()", "tm"),
        (CAPTURE + "functional_call(net, params, x)\nloss.backward()", "gm"),
        (CAPTURE + "images.grad = torch.autograd.grad(loss, images)[0]", "gm"),
        (CAPTURE + CAPTURE + "images.grad = total", "tesla"),
        (CAPTURE + "images.grad = None", None),
        (CAPTURE + "images.grad = total\nloss.backward()", "gm"),
        (CAPTURE, None),
        ("g = torch.autograd.grad(loss, params, create_graph=False)\nloss.backward()", None),
        ("g = torch.autograd.grad(loss, params, create_graph=again)\nloss.backward()", "gm"),
        ("g = torch.autograd.grad(loss, w, None, True, True)\nloss.backward()", "gm"),
        ("t.append([p.detach().cpu() for p in net.parameters()])\nloss.backward()", "none"),
        ("x = torch.randn(3, requires_grad=True)\nSGD([x], lr=1)\nloss.backward()", "dm"),
        ("x = torch.randn(3).requires_grad_()\nAdam(params=[x, ])\nloss.backward()", "dm"),
        ("x = torch.randn(3, requires_grad=False)\nSGD([x], lr=1)\nloss.backward()", None),
        ("SGD(net.parameters(), lr=1)\nx = w.requires_grad_()\nloss.backward()", None),
        (
            "class Set:\n    def __init__(self):\n        self.x = ones(3, requires_grad=True)\n"
            "    def parameters(self):\n        return [self.x]",
            "dm",
        ),
        ("def broken(:", None),
        ("", None),
    ],
)
def test_facts_speak_for_a_profile(source: str, profile: str | None) -> None:
    assert read_facts(source).profile == profile


def test_facts_have_lines() -> None:
    facts = read_facts("\n" + CAPTURE + "x = 2 * torch.autograd.grad(a, b)\nimages.grad = x")
    assert (facts.captures, facts.repeats_gradients, facts.assigns_grad) == (2, 3, 4)
    assert str(facts) == "captures (line 2), assigns grad (line 4), repeats gradients (line 3)"
    assert str(read_facts("")) == "no gradients with create_graph=True"


def test_names_do_not_count(tmp_path: Path) -> None:
    script = tmp_path / "tesla_distill.py"
    script.write_text("from loop import mtt\n")
    (tmp_path / "loop.py").write_text(CAPTURE + "loss.backward()")
    where, facts = recognize(Project.read(script).texts)
    assert (where.name, facts.profile) == ("loop.py", "gm")


@pytest.mark.parametrize("script", sorted(PENALTIES.glob("*.py")), ids=lambda path: path.stem)
def test_training_with_gradients_of_gradients_is_no_distillation(script: Path) -> None:
    texts = Project.read(script).texts
    assert recognize(texts) is None
    where, facts = gradient_penalty(texts)
    assert where == script and facts.captures
    # The same gradients beside an optimiser of data are distillation.
    texts[script] += "\nimages = load()\ntorch.optim.SGD([images], lr=0.1)\n"
    assert recognize(texts) is not None


@pytest.mark.parametrize(
    ("optimizer", "learns"),
    [
        ("torch.optim.SGD(net.parameters(), lr=1)", False),
        ("torch.optim.SGD(self.net.head.parameters(), lr=1)", False),
        ("optim.Adam([{'params': net.parameters()}], lr=1)", False),
        ("ps = filter(lambda p: p.requires_grad, net.parameters())\nAdam(ps)", False),
        ("weights = list(net.parameters())\noptim.SGD(weights, lr=1)", False),
        ("optim.SGD([images, ], lr=1)", True),
        ("optim.SGD([{'params': [latent], 'lr': 1}])", True),
        ("optim.Adam(params=[images])", True),
        ("optim.Adam(decoder.parameters())", True),
        ("class Set:\n    def parameters(self):\n        return [self.data]", True),
        ("net(x, flat_param=weights)", True),
        ("", True),  # an optimiser that is not seen
    ],
)
def test_a_distillation_learns_something_else_than_its_network(
    optimizer: str, learns: bool, tmp_path: Path
) -> None:
    text = "weights = list(net.parameters())\n" + CAPTURE.replace("params", "weights")
    script = tmp_path / "main.py"
    script.write_text(f"{text}\nloss.backward()\nfrom other import f\n")
    (tmp_path / "other.py").write_text(f"{optimizer}\n")
    assert (recognize(Project.read(script).texts) is not None) == learns


@pytest.mark.parametrize(("keeps", "learns"), [("False", False), ("True", True)])
def test_gradients_without_a_graph_say_nothing_of_what_is_learnt(keeps: str, learns: bool) -> None:
    """A generator is trained beside a critic whose gradient is only printed."""
    text = (
        "SGD(critic.parameters(), lr=1)\nSGD(generator.parameters(), lr=1)\n"
        "g = torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0]\n"
        f"print(torch.autograd.grad(loss, critic.parameters(), create_graph={keeps}))\n"
        "loss.backward()\n"
    )
    assert (recognize({Path("main.py"): text}) is not None) == learns


def test_nothing_is_recognised_where_nothing_is(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text("print('hello')\n")
    assert recognize(Project.read(script).texts) is None


def test_a_loop_goes_before_the_file_that_only_makes_the_images(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text("import matching\nx = torch.ones(3, requires_grad=True)\nSGD([x])")
    (tmp_path / "matching.py").write_text(CAPTURE + "loss.backward()")
    where, facts = recognize(Project.read(script).texts)
    assert (where.name, facts.profile) == ("matching.py", "gm")


def test_a_loop_in_several_files_is_recognised_as_one(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    text = "from matching import captured\nx = torch.ones(3, requires_grad=True)\nSGD([x])\n"
    script.write_text(text + "captured(x).sum().backward()")
    (tmp_path / "matching.py").write_text("def captured(loss):\n    " + CAPTURE + "    return g")
    where, facts = recognize(Project.read(script).texts)
    assert (where.name, facts.profile) == ("matching.py", "gm")
    expected = "captures (line 2), backward (main.py line 4), learns tensors (main.py line 3)"
    assert str(facts) == expected


DISTILS = f"""\
def load():
    return net
def main():
    {CAPTURE}    loss.backward()
if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("from distil import load\nload()", None),
        ("from distil import load\nif __name__ == '__main__':\n    load()", None),
        ("import distil\ndistil.main()", "gm"),
        ("from distil import main as run\ndef go():\n    run()\ngo()", "gm"),
        ("import distil\ngetattr(distil, 'main')()", "gm"),
        ("from distil import load\n@registered\ndef go():\n    main()", "gm"),
        ("from distil import load\ndef go():\n    main()", None),
        ("from distil import load\ndef main():\n    load()\nmain()", None),
        (
            "import distil\nx = ones(3, requires_grad=True)\nSGD([x])\ngetattr(distil, a + b)()",
            None,
        ),
    ],
)
def test_what_a_program_cannot_run_does_not_count(
    text: str, profile: str | None, tmp_path: Path
) -> None:
    script = tmp_path / "pretrain.py"
    script.write_text(text)
    (tmp_path / "distil.py").write_text(DISTILS)
    found = Script.read(script)
    assert found.profile == profile
    if profile is None:
        assert "distil.py (line 4) asks for gradients" in found.advice_on_profile
        assert "in a function that pretrain.py does not name" in found.advice_on_profile
    assert Script.read(tmp_path / "distil.py").profile == "gm"
