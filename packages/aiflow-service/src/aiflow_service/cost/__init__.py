"""What runs cost: what attempts used, times what that cost at the time."""

from aiflow_service.cost.prices import NO_PRICES, Price, Prices, read_prices
from aiflow_service.cost.reading import GROUPS, CostFilter, sum_costs

__all__ = ["GROUPS", "NO_PRICES", "CostFilter", "Price", "Prices", "read_prices", "sum_costs"]
