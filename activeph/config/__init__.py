"""The campaign file: its keys (:class:`Campaign`), reading it, and comparing it with an earlier one."""

from activeph.config.budget import Budget
from activeph.config.inputs import check_inputs
from activeph.config.load import load_campaign, locate
from activeph.config.schema import Arm, Campaign, SystemSection, TestSection

__all__ = ["Arm", "Budget", "Campaign", "SystemSection", "TestSection", "check_inputs", "load_campaign", "locate"]
