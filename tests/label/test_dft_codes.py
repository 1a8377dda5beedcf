"""The same crystals by several codes, for real. What cannot be installed everywhere is an integration test."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from activeph.errors import InputError, LabelFailed
from activeph.label.abinit import AbinitLabeler
from activeph.label.cp2k import Cp2kLabeler
from activeph.label.espresso import EspressoLabeler
from activeph.label.gpaw import GpawLabeler
from activeph.label.program_labeler import ProgramLabeler
from activeph.records import Configuration, Label

KPTS = (2, 2, 2)
SILICON = {
    "gpaw": GpawLabeler.model_validate({"mode": {"pw": 400.0}, "kpts": KPTS}),
    "espresso": EspressoLabeler(
        pseudopotentials={"Si": "Si.pbe-nl-rrkjus_psl.1.0.0.UPF"}, ecutwfc=40.0, ecutrho=320.0, kpts=KPTS
    ),
    "cp2k": Cp2kLabeler(cutoff=300.0, kpts=KPTS),
    "abinit": AbinitLabeler(
        pseudopotentials={"Si": "Pseudodojo_nc_sr_04_pbe_standard_psp8/Si.psp8"},
        valence={"Si": 4.0},
        ecut=15.0,
        kpts=KPTS,
    ),
}
Labels = Callable[[str], list[Label]]
MPI = "mpirun --oversubscribe --bind-to none --allow-run-as-root -np {cores}"


def silicon(shift: float) -> Configuration:
    crystal = bulk("Si", "diamond", 5.43)
    crystal.positions[0] += [shift, 0.5 * shift, 0.0]
    return Configuration(crystal.numbers.astype(np.int64), crystal.positions, crystal.cell.array)


def run(labeler: ProgramLabeler, configuration: Configuration, directory: Path) -> Label:
    directory.mkdir(parents=True)
    labeler.check(configuration)
    return labeler.label(configuration, directory)


@pytest.fixture(scope="module")
def silicon_labels(tmp_path_factory: pytest.TempPathFactory) -> Labels:
    """Return a function that gives the two labels of a code, calculated when they are first wanted."""
    root = tmp_path_factory.mktemp("silicon")

    @functools.cache
    def labels(name: str) -> list[Label]:
        return [run(SILICON[name], silicon(shift), root / name / str(shift)) for shift in (0.01, 0.03)]

    return labels


@pytest.mark.integration
@pytest.mark.parametrize("name", SILICON)
def test_a_label_is_whole(silicon_labels: Labels, name: str) -> None:
    label = silicon_labels(name)[0]
    assert label.forces.shape == (2, 3)
    assert label.stress.shape == (6,)
    assert label.eigenvalues.shape == label.occupations.shape
    assert label.eigenvalues.shape[:2] == (1, len(label.provenance["k_point_weights"]))
    assert label.conduction_band_minimum - label.valence_band_maximum == pytest.approx(label.band_gap)
    assert label.direct_band_gap >= label.band_gap > 0
    electrons = np.einsum("skb,k->", label.occupations, label.provenance["k_point_weights"])
    assert electrons == pytest.approx(8.0, abs=1e-3)
    assert label.provenance["code"] == name
    assert label.provenance["scf_iterations"] > 2
    assert label.provenance["rung"] == 0


@pytest.mark.integration
@pytest.mark.parametrize("name", ["espresso", "cp2k", "abinit"])
def test_silicon_agrees_with_gpaw(silicon_labels: Labels, name: str) -> None:
    """Tolerances: what pseudopotentials and a double-zeta basis differ by; docs/labels.md has the figures."""
    reference, other = silicon_labels("gpaw"), silicon_labels(name)
    difference = reference[1].energy - reference[0].energy
    assert other[1].energy - other[0].energy == pytest.approx(difference, abs=0.001)  # eV
    for mine, theirs in zip(other, reference, strict=True):
        np.testing.assert_allclose(mine.forces, theirs.forces, atol=0.02)  # eV/Å
        np.testing.assert_allclose(mine.stress, theirs.stress, atol=0.006)  # eV/Å³
        assert mine.band_gap == pytest.approx(theirs.band_gap, abs=0.08)  # eV
        assert mine.direct_band_gap == pytest.approx(theirs.direct_band_gap, abs=0.08)


@pytest.mark.integration
@pytest.mark.parametrize("name", SILICON)
def test_forces_follow_the_energy(silicon_labels: Labels, name: str) -> None:
    """Energy along the displacement by the trapezoidal rule; the anharmonic rest is below the tolerance."""
    first, second = silicon_labels(name)
    step = second.configuration.positions[0] - first.configuration.positions[0]
    work = -0.5 * (first.forces[0] + second.forces[0]) @ step
    assert second.energy - first.energy == pytest.approx(work, abs=0.0005)


@pytest.mark.integration
@pytest.mark.parametrize("name", SILICON)
def test_unconverged_is_no_label_and_the_ladder_helps(name: str, tmp_path: Path) -> None:
    configuration = silicon(0.05)
    poor = SILICON[name].model_copy(update={"max_iterations": 2, "ladder": (), "kpts": (1, 1, 1)})
    with pytest.raises(LabelFailed) as caught:
        run(poor, configuration, tmp_path / "poor")
    assert caught.value.kind == "unconverged"
    climbing = poor.model_copy(update={"ladder": ({"max_iterations": 3}, {"max_iterations": 100})})
    assert climbing.fingerprint != poor.fingerprint
    label = run(climbing, configuration, tmp_path / "climbing")
    assert label.provenance["rung"] == 2
    assert len(list((tmp_path / "climbing").glob(f"rung-*-{poor.LOG_NAME}"))) == 2


@pytest.mark.integration
@pytest.mark.parametrize("name", ["gpaw", "espresso"])
def test_two_processes_give_the_same_label(silicon_labels: Labels, name: str, tmp_path: Path) -> None:
    parallel = SILICON[name].model_copy(update={"cores": 2, "launcher": MPI})
    assert parallel.fingerprint == SILICON[name].fingerprint
    label = run(parallel, silicon(0.01), tmp_path / "mpi")
    assert label.energy == pytest.approx(silicon_labels(name)[0].energy, abs=1e-4)
    np.testing.assert_allclose(label.forces, silicon_labels(name)[0].forces, atol=2e-3)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["gpaw", "espresso", "abinit"])
def test_a_metal_has_no_gap(name: str, tmp_path: Path) -> None:
    crystal = bulk("Si", "fcc", 3.9)  # one silicon per cell
    metal = Configuration(crystal.numbers.astype(np.int64), crystal.positions, crystal.cell.array)
    labeler = SILICON[name].model_copy(update={"kpts": (4, 4, 4), "smearing": 0.1})
    label = run(labeler, metal, tmp_path / "metal")
    assert (label.band_gap, label.direct_band_gap) == (0.0, 0.0)


HYDROGEN = {
    "gpaw": GpawLabeler.model_validate({"mode": {"pw": 300.0}}),
    "espresso": EspressoLabeler(pseudopotentials={"H": "H.pbe-kjpaw.UPF"}, ecutwfc=40.0),
    "abinit": AbinitLabeler(
        pseudopotentials={"H": "Pseudodojo_nc_sr_04_pbe_standard_psp8/H.psp8"}, valence={"H": 1.0}, ecut=20.0
    ),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", HYDROGEN)
def test_spin_opens_the_gap_of_a_magnet(name: str, tmp_path: Path) -> None:
    """One hydrogen atom in 4 Å: half a band without spin, one full band of one spin with it; GPAW has 8.69 eV."""
    atom = Configuration(np.array([1]), np.zeros((1, 3)), 4.0 * np.eye(3))
    metal = run(HYDROGEN[name], atom, tmp_path / "metal")
    assert (metal.band_gap, metal.direct_band_gap) == (0.0, 0.0)
    assert np.isfinite(metal.valence_band_maximum)
    magnet = run(HYDROGEN[name].model_copy(update={"spin": True, "magnetic_moments": {"H": 1.0}}), atom, tmp_path / "m")
    assert magnet.eigenvalues.shape[0] == 2
    assert magnet.occupations.max() == pytest.approx(1.0)
    assert magnet.band_gap == pytest.approx(8.69, abs=0.03)
    assert metal.energy - magnet.energy == pytest.approx(0.97, abs=0.02)


@pytest.mark.integration
@pytest.mark.parametrize("name", SILICON)
def test_two_equal_spins_give_the_same_label(silicon_labels: Labels, name: str, tmp_path: Path) -> None:
    plain = silicon_labels(name)[0]
    label = run(SILICON[name].model_copy(update={"spin": True}), silicon(0.01), tmp_path / "spin")
    assert label.eigenvalues.shape[:2] == (2, plain.eigenvalues.shape[1])
    assert label.energy == pytest.approx(plain.energy, abs=1e-4)
    assert label.band_gap == pytest.approx(plain.band_gap, abs=1e-3)


@pytest.mark.integration
@pytest.mark.slow
def test_silver_sulphide_bromide_agrees_between_gpaw_and_cp2k(tmp_path: Path) -> None:
    fractions = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)]
    gpaw = GpawLabeler.model_validate({"kpts": KPTS, "setups": {"Ag": "11"}})
    labels: dict[str, list[Label]] = {"gpaw": [], "cp2k": []}
    for name, labeler in (("gpaw", gpaw), ("cp2k", Cp2kLabeler(kpts=KPTS))):
        for seed in (0, 1):
            atoms = Atoms("SBrAg3", scaled_positions=fractions, cell=[4.93] * 3, pbc=True)
            atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=(5, 3))
            configuration = Configuration(atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array)
            labels[name].append(run(labeler, configuration, tmp_path / name / str(seed)))
    differences = [second.energy - first.energy for first, second in labels.values()]
    assert differences[0] == pytest.approx(differences[1], abs=0.01)  # eV
    for mine, theirs in zip(labels["cp2k"], labels["gpaw"], strict=True):
        np.testing.assert_allclose(mine.forces, theirs.forces, atol=0.05)  # eV/Å
        np.testing.assert_allclose(mine.stress, theirs.stress, atol=0.005)  # eV/Å³
        assert mine.band_gap == pytest.approx(theirs.band_gap, abs=0.08)  # eV


@pytest.mark.integration
def test_what_is_missing_is_named() -> None:
    bromide = Configuration(np.array([35, 16]), np.zeros((2, 3)), np.eye(3) * 5)
    with pytest.raises(InputError, match=r"label\.pseudopotentials must name a file .* got none for S"):
        SILICON["espresso"].check(bromide)
    missing = EspressoLabeler(pseudopotentials={"S": "S.UPF", "Br": "Br.UPF"})
    with pytest.raises(InputError, match=r"label\.pseudopotentials\.S must be a file of .* but got 'S\.UPF'"):
        missing.check(bromide)
    with pytest.raises(InputError, match=r"PAW data set .* none named S\.PBEsol"):
        GpawLabeler(xc="PBEsol").check(bromide)
    with pytest.raises(InputError, match=r"label\.pseudopotentials must name every element but got none for S"):
        SILICON["abinit"].check(bromide)
    with pytest.raises(InputError, match="NO-SUCH-BASIS for every element but got none for S"):
        Cp2kLabeler(basis="NO-SUCH-BASIS").check(bromide)


def test_settings_that_change_the_answer_are_no_rungs() -> None:
    with pytest.raises(ValueError, match="a rung may change eigensolver, max_iterations, mixing but got smearing"):
        GpawLabeler(ladder=({"smearing": 0.2},))
    with pytest.raises(ValueError, match="rung"):
        GpawLabeler(ladder=({"mixing": -1.0},))
    with pytest.raises(ValueError, match="at least 1 but got"):
        GpawLabeler(kpts=(2, 0, 1))


def test_a_missing_program_is_named() -> None:
    with pytest.raises(InputError, match=r"label\.command must name an installed program but got 'no-pw\.x'"):
        SILICON["espresso"].model_copy(update={"command": "no-pw.x"}).check(silicon(0.0))
