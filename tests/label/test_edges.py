import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeph.label.edges import UNKNOWN, band_edges


def fermi(energies: np.ndarray, level: float, width: float, full: float) -> np.ndarray:
    return full / (1.0 + np.exp((energies - level) / width))


def test_indirect_gap_of_two_k_points() -> None:
    eigenvalues = np.array([[[-1.0, 0.0, 3.0], [-1.0, 0.5, 2.0]]])  # top of the valence band and bottom of the other
    occupations = np.array([[[2.0, 2.0, 0.0], [2.0, 2.0, 0.0]]])
    edges = band_edges(eigenvalues, occupations)
    assert (edges.valence_band_maximum, edges.conduction_band_minimum) == (0.5, 2.0)
    assert edges.band_gap == 1.5
    assert edges.direct_band_gap == 1.5
    shifted = eigenvalues.copy()
    shifted[0, 0, 1] = 0.75  # now the edges lie at different points
    edges = band_edges(shifted, occupations)
    assert edges.band_gap == 1.25
    assert edges.direct_band_gap == 1.5


@settings(deadline=None)
@given(gap=st.floats(0.05, 5.0), width=st.floats(0.005, 0.3))
def test_smeared_occupations_do_not_move_the_edges(gap: float, width: float) -> None:
    """Symmetric bands keep the electrons' number whole at any smearing."""
    eigenvalues = np.array([[[-gap / 2 - 0.2, -gap / 2, gap / 2, gap / 2 + 0.2]]])
    edges = band_edges(eigenvalues, fermi(eigenvalues, 0.0, width, 2.0))
    assert edges.band_gap == pytest.approx(gap)
    assert edges.valence_band_maximum == pytest.approx(-gap / 2)


def test_two_electrons_in_two_degenerate_levels_are_a_metal() -> None:
    edges = band_edges(np.array([[[-1.0, 0.5, 0.5]]]), np.array([[[2.0, 1.0, 1.0]]]))
    assert (edges.band_gap, edges.direct_band_gap) == (0.0, 0.0)
    assert edges.valence_band_maximum == edges.conduction_band_minimum == 0.5


@pytest.mark.parametrize("printed", [1.0, 0.9999999999, 0.97])
def test_a_half_filled_band_is_a_metal_whose_level_is_found(printed: float) -> None:
    """One electron per cell at one k-point: codes print its occupation with an error in the last digits."""
    edges = band_edges(np.array([[[-7.0, 1.0]]]), np.array([[[printed, 0.0]]]))
    assert edges.band_gap == 0.0
    assert edges.valence_band_maximum == edges.conduction_band_minimum == -7.0


def test_overlapping_bands_are_a_metal() -> None:
    eigenvalues = np.array([[[0.0, 2.0], [1.0, 0.5]]])  # the upper band dips below the lower one's top
    occupations = np.array([[[2.0, 0.0], [0.0, 2.0]]])
    assert band_edges(eigenvalues, occupations).band_gap == 0.5  # filled 0.0 and 0.5, empty 2.0 and 1.0
    crossing = np.array([[[0.0, 2.0], [1.5, 3.0], [-1.0, 1.0]]])
    occupations = np.array([[[2.0, 0.0], [0.0, 0.0], [2.0, 2.0]]])
    edges = band_edges(crossing, occupations)
    assert edges.band_gap == 0.0
    assert edges.valence_band_maximum == 1.0


def test_an_odd_number_of_electrons_without_spin_is_a_metal() -> None:
    assert band_edges(np.array([[[-1.0, 0.0, 1.0]]]), np.array([[[2.0, 1.0, 0.0]]])).band_gap == 0.0


def test_spin_channels_count_their_own_electrons() -> None:
    """One electron more in the first channel; the gap joins the channels, the direct one does not."""
    eigenvalues = np.array([[[-3.0, -1.0, 2.0]], [[-2.5, 0.5, 2.5]]])
    occupations = np.array([[[1.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]])
    edges = band_edges(eigenvalues, occupations)
    assert edges.valence_band_maximum == -1.0
    assert edges.conduction_band_minimum == 0.5
    assert edges.direct_band_gap == 3.0


def test_an_empty_spin_channel_has_only_a_conduction_band() -> None:
    edges = band_edges(np.array([[[-1.0, 2.0]], [[0.5, 3.0]]]), np.array([[[1.0, 0.0]], [[0.0, 0.0]]]))
    assert (edges.band_gap, edges.direct_band_gap) == (1.5, 3.0)


def test_weights_of_k_points_count_the_electrons() -> None:
    """A metal of two unequal k-points whose plain mean would look like a whole number of electrons."""
    eigenvalues = np.array([[[0.0, 3.0], [1.0, 4.0]]])
    occupations = np.array([[[2.0, 2.0], [0.0, 0.0]]])
    assert band_edges(eigenvalues, occupations, np.array([0.75, 0.25])).band_gap == 0.0
    assert band_edges(eigenvalues, np.array([[[2.0, 0.0], [2.0, 0.0]]]), np.array([0.75, 0.25])).band_gap == 2.0


def test_unsorted_bands_are_sorted() -> None:
    edges = band_edges(np.array([[[2.0, -1.0, 0.0]]]), np.array([[[0.0, 2.0, 2.0]]]))
    assert edges.band_gap == 2.0


def test_without_empty_bands_the_gap_is_unknown() -> None:
    edges = band_edges(np.array([[[-2.0, -1.0]]]), np.array([[[2.0, 2.0]]]))
    assert edges.valence_band_maximum == -1.0
    assert math.isnan(edges.band_gap)
    assert math.isnan(edges.conduction_band_minimum)


def test_without_bands_nothing_is_known() -> None:
    assert band_edges(np.zeros((0, 0, 0)), np.zeros((0, 0, 0))) is UNKNOWN
