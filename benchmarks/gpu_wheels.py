"""Lists what ``make gpu`` needs beside torch, with the versions that are installed here.

    python benchmarks/gpu_wheels.py > list.txt

The list follows from the requirements of the installed package and of what these require. torch
and torchvision are left out with what only they need, since they belong to the GPU's machine.
"""

from __future__ import annotations

from importlib.metadata import requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("test", "tune")
LEFT_OUT = {"torch", "torchvision"}


def needed(package: str, extras: tuple[str, ...], found: dict[str, str]) -> None:
    """Adds what a package requires to the versions found so far."""
    for text in requires(package) or ():
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        marker = requirement.marker
        applies = marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras))
        if applies and name not in LEFT_OUT and name not in found:
            found[name] = version(name)
            needed(name, tuple(requirement.extras), found)


if __name__ == "__main__":
    found: dict[str, str] = {}
    needed("sdc-ext", EXTRAS, found)
    print("\n".join(f"{name}=={number}" for name, number in sorted(found.items())))
