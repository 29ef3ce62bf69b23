"""Trains networks, and computes the gradients that training and matching use."""

from sdc_ext.training.epochs import accuracy as accuracy
from sdc_ext.training.epochs import train_epoch as train_epoch
from sdc_ext.training.gradients import BatchLoss as BatchLoss
from sdc_ext.training.gradients import differentiable_gradient as differentiable_gradient
from sdc_ext.training.gradients import mean_gradient as mean_gradient
from sdc_ext.training.label_loss import LabelLoss as LabelLoss
from sdc_ext.training.probe import Probe as Probe
from sdc_ext.training.probe import train_probe as train_probe
from sdc_ext.training.protocols import PROTOCOLS as PROTOCOLS
from sdc_ext.training.protocols import Subject as Subject
from sdc_ext.training.protocols import protocol as protocol
from sdc_ext.training.recipe import TrainingRecipe as TrainingRecipe
from sdc_ext.training.recipe import train_from_scratch as train_from_scratch

__all__ = [
    "PROTOCOLS",
    "BatchLoss",
    "LabelLoss",
    "Probe",
    "Subject",
    "TrainingRecipe",
    "accuracy",
    "differentiable_gradient",
    "mean_gradient",
    "protocol",
    "train_epoch",
    "train_from_scratch",
    "train_probe",
]
