"""Says what stands in a script's way on this machine, before it runs."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from sdc_ext.injection.repairs import lost_names, missing_packages
from sdc_ext.injection.runner import Script

# The names by which packages are installed, where they differ from those of the imports.
_PACKAGES = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


@dataclass
class Report:
    """What stands in a script's way.

    Attributes:
        lines: Sentences for the user.
        is_clear: Whether nothing does that the script is sure to meet.
    """

    lines: list[str] = field(default_factory=list)
    is_clear: bool = True

    def add(self, sentence: str, sure: bool) -> None:
        """Adds an obstacle, which the script meets surely or perhaps."""
        self.lines.append(f"{'stands in the way' if sure else 'may stand in the way'}: {sentence}")
        self.is_clear &= not sure


def inspect(script: Script, profile: str = "auto", consents: Container[str] = ()) -> Report:
    """Returns a report on a script, without running it.

    Args:
        script: The script.
        profile: The profile that the user chose; "auto" for the one that was recognised.
        consents: The options that the user gave to allow repairs.
    """
    report = Report()
    if profile != "auto":
        report.lines.append(f"profile: {profile}, as chosen")
    elif script.profile is None:
        report.add(script.advice_on_profile, sure=True)
    else:
        report.lines.append(f"profile: {script.profile} ({script.evidence})")
        if script.profile == "dm":
            report.lines.append(f"nothing is corrected: {script.advice_on_features}")
    if script.advice_on_folder is not None:
        report.add(script.advice_on_folder, sure=True)
    for package, (source, found, must) in missing_packages(script.project).items():
        name = _PACKAGES.get(package, package)
        where = f"{source.name} line {found.line} imports it"
        report.add(f"the package {name} is not installed; {where}", must)
    for place, sure in lost_names(script.project):
        if not any(place.what.startswith(name) for name in _stood_in(script)):
            where = f"{place.file} line {place.line} uses it"
            report.add(f"{place.what} does not exist in the library here; {where}", sure)
    for needed in script.repairs:
        if needed.repair.name == "absent":
            continue  # the packages were named above
        if needed.repair.consent is None or needed.repair.consent in consents:
            report.lines.append(f"repaired where it is met: {needed}")
        else:
            report.add(needed.advice, sure=False)
    if report.is_clear:
        report.lines.append(f"{script.path.name} can start here")
    return report


def _stood_in(script: Script) -> set[str]:
    """Returns the modules that stand-ins take the place of."""
    places = [place.what for needed in script.repairs for place in needed.places]
    return {what.removeprefix("import ") for what in places if what.startswith("import ")}
