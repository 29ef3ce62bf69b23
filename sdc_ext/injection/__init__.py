"""Corrects matching loops in unmodified scripts by intercepting their calls of autograd."""

from sdc_ext.errors import InjectionError as InjectionError
from sdc_ext.injection.hooks import Injection as Injection
from sdc_ext.injection.hooks import inject as inject
from sdc_ext.injection.profiles import PROFILES as PROFILES
from sdc_ext.injection.record import InjectionRecord as InjectionRecord
from sdc_ext.injection.record import Step as Step

__all__ = [
    "PROFILES",
    "Injection",
    "InjectionError",
    "InjectionRecord",
    "Step",
    "inject",
]
