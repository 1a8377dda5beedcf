"""What a campaign may spend: labels, core-hours, and the errors that are good enough."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from activeph.config.fields import Count, TargetName
from activeph.section import Section, wrong_value


class Budget(Section):
    """What every repeat of every arm may spend, and when it may stop earlier."""

    labels: Count = 250
    """Number of labels each repeat of each arm may spend, the initial ones included; what fails is replaced."""
    initial: Count = 25
    """Number of labels in the first round, drawn at random from the arm's pool."""
    batch: Count = 25
    """Number of labels in each later round."""
    repeats: int = Field(default=3, ge=1, le=1000)
    """Number of repeats (seeds) of each arm; error bands come from them."""
    target_error: dict[TargetName, Annotated[float, Field(gt=0)]] = {}
    """Mean absolute error at which a repeat stops early, by target, in the unit that reports print."""

    core_hours: float | None = Field(default=None, gt=0)
    """Hard limit of what all calculations of the campaign may cost together, in core-hours: those of the test set, of
    force constants, and failed ones too. At the limit the campaign pauses; default: none."""

    @model_validator(mode="before")
    @classmethod
    def _small_budgets_have_small_batches(cls, values: Any) -> Any:
        if isinstance(values, dict) and type(values.get("labels")) is int:
            return {"initial": min(25, values["labels"]), "batch": min(25, values["labels"]), **values}
        return values

    @field_validator("initial", "batch")
    @classmethod
    def _within_budget(cls, value: int, info: ValidationInfo) -> int:
        labels = info.data.get("labels", value)
        if value > labels:
            raise wrong_value(
                f"must be at most {labels} (budget.labels)", f"lower budget.{info.field_name} or raise budget.labels"
            )
        return value


def cores_per_label(execute: Any, label: Any) -> int:
    """Return how many cores one calculation of a labeler occupies on an executor."""
    places = ((execute, "cores_per_label"), (execute, "threads"), (label, "cores"))
    return max(int(getattr(section, name, None) or 1) for section, name in places)
