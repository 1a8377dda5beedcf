import dataclasses
import math

import numpy as np
import pytest

from activeph.errors import LabelFailed
from activeph.label.sanity import check_distances, check_label
from activeph.records import Configuration, Label

CELL = np.eye(3) * 6.0


def label(**change: object) -> Label:
    configuration = Configuration(np.array([19, 35]), np.array([[0.0, 0, 0], [3, 3, 3]]), CELL)
    bands = np.array([[[0.0, 1.0]]])
    good = Label(configuration, -1.0, np.zeros((2, 3)), np.zeros(6), 1.0, 1.0, 0.0, 1.0, bands, bands)
    return dataclasses.replace(good, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("distance", "is_fine"), [(2.5, True), (1.65, True), (1.5, False), (0.5, False), (0.0, False), (5.5, False)]
)
def test_contacts(distance: float, is_fine: bool) -> None:
    """K and Br: half the sum of covalent radii is 1.62 Å; the last one is close through the wall of the cell."""
    configuration = Configuration(np.array([19, 35]), np.array([[0.0, 0, 0], [distance, 0, 0]]), CELL)
    if is_fine:
        check_distances(configuration)
    else:
        with pytest.raises(LabelFailed, match=r"\(K\) and .* \(Br\)|\(Br\) and .* \(K\)") as caught:
            check_distances(configuration)
        assert caught.value.kind == "unphysical"


@pytest.mark.parametrize(
    "change",
    [
        {"energy": math.nan},
        {"forces": np.array([[0.0, 0.0, math.nan], [0.0, 0.0, 0.0]])},
        {"forces": np.zeros((3, 3))},
        {"stress": np.array([0.0, 0, 0, 0, 0, math.inf])},
        {"band_gap": -0.1},
    ],
)
def test_what_is_no_label(change: dict[str, object]) -> None:
    check_label(label())
    with pytest.raises(LabelFailed) as caught:
        check_label(label(**change))
    assert caught.value.kind == "unphysical"


def test_what_a_labeler_does_not_give_may_be_missing() -> None:
    check_label(label(stress=np.full(6, math.nan), band_gap=math.nan, forces=np.full((2, 3), math.nan)))
