"""Trains networks, and computes the gradients that training and matching use."""

from sdc_ext.training.epochs import accuracy as accuracy
from sdc_ext.training.epochs import train_epoch as train_epoch
from sdc_ext.training.gradients import BatchLoss as BatchLoss
from sdc_ext.training.gradients import differentiable_gradient as differentiable_gradient
from sdc_ext.training.gradients import mean_gradient as mean_gradient
from sdc_ext.training.probe import Probe as Probe
from sdc_ext.training.probe import train_probe as train_probe
from sdc_ext.training.recipe import TrainingRecipe as TrainingRecipe
from sdc_ext.training.recipe import train_from_scratch as train_from_scratch

__all__ = [
    "BatchLoss",
    "Probe",
    "TrainingRecipe",
    "accuracy",
    "differentiable_gradient",
    "mean_gradient",
    "train_epoch",
    "train_from_scratch",
    "train_probe",
]
