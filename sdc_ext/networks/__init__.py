"""Makes networks by name: those common in dataset distillation, registered ones, and timm's.

Importing this package registers its own networks with timm, with the prefix ``dd_``.
"""

from sdc_ext.networks.architectures import ConvNet as ConvNet
from sdc_ext.networks.create import check_network as check_network
from sdc_ext.networks.create import create_network as create_network
from sdc_ext.networks.functional import FunctionalNetwork as FunctionalNetwork
from sdc_ext.networks.pool import pool_of as pool_of
from sdc_ext.networks.registry import dd_networks as dd_networks
from sdc_ext.networks.registry import network_name as network_name
from sdc_ext.networks.registry import register_network as register_network

__all__ = [
    "ConvNet",
    "FunctionalNetwork",
    "check_network",
    "create_network",
    "dd_networks",
    "network_name",
    "pool_of",
    "register_network",
]
