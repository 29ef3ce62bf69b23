"""The paper's tables and figures: what they compare, what was published, what a budget allows."""

from sdc_ext.reproduction.fitting import Fitted, Pace, fit
from sdc_ext.reproduction.items import ITEMS, Cell, Item
from sdc_ext.reproduction.published import Accuracy, Published, originals_above, published_cells

__all__ = [
    "ITEMS",
    "Accuracy",
    "Cell",
    "Fitted",
    "Item",
    "Pace",
    "Published",
    "fit",
    "originals_above",
    "published_cells",
]
