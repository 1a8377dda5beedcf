"""A campaign whose model cannot learn its targets is refused before anything is paid for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from activeph.config import check_inputs, load_campaign
from activeph.errors import InputError

BASE = "systems: [{structure: KBr.vasp}]\nlabel: xtb\n"
LEARNS = "energy_per_atom, hydrostatic_stress, stress_xx, stress_yy, stress_zz, stress_yz, stress_xz, stress_xy"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("targets: [energy_per_atom, band_gap]\nmodel: mace\n", "c.yaml:3: targets"),
        ("model: mace\n", "c.yaml:1: targets"),
    ],
)
def test_mace_is_refused_the_band_gap(text: str, place: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(InputError) as error:
        load_campaign(write(BASE + text))
    assert str(error.value).endswith(
        f"{place} must be among {LEARNS}, which is all that model.kind mace learns but got 'band_gap'; "
        "write 'targets:' without it or choose another model"
    )


@pytest.mark.parametrize("model", ["mace", "gnn", "modes-gnn"])
def test_energies_and_stresses_are_learned_by_all(model: str, write: Callable[[str], Path]) -> None:
    text = BASE + f"targets: [energy_per_atom, hydrostatic_stress, stress]\nmodel: {model}\n"
    campaign = load_campaign(write(text))
    assert (campaign.learner is campaign.model) == (model == "mace")


DISORDER = "{kind: disorder, replace: Br, by: I}"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"arms: {{a: {{sample: {DISORDER}, select: random}}}}\n", "arms.a.sample"),
        (f"test: {{sample: {{kind: mixture, parts: [{{sample: phonon}}, {{sample: {DISORDER}}}]}}}}\n", "test.sample"),
        (f"test: {{sample: {{kind: defects, vacancies: [K], sample: {DISORDER}}}}}\n", "test.sample"),
    ],
)
def test_modes_are_those_of_fixed_atoms(text: str, place: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(InputError) as error:
        load_campaign(write(BASE + "model: modes\n" + text))
    assert str(error.value).endswith(
        f"c.yaml:3: model.kind must be a model of crystals whose atoms change, as those of {place} do but got modes; "
        "write 'model: modes-gnn' or 'model: gnn'"
    )
    load_campaign(write(BASE + "model: modes-gnn\n" + text))


def test_elements_that_samplers_bring_must_be_known_to_the_labeler(write: Callable[[str], Path]) -> None:
    disorder = "{kind: disorder, replace: Br, by: U}"
    text = BASE + f"arms: {{a: {{sample: {disorder}, select: random}}}}\n"
    with pytest.raises(InputError) as error:
        check_inputs(load_campaign(write(text)))
    assert str(error.value).endswith(
        "c.yaml:2: label cannot label KBr with U: label.kind xtb (GFN2-xTB) must have elements up to radon but got U; "
        "use another label.kind."
    )


@pytest.mark.slow
def test_a_foundation_model_is_looked_at_first(write: Callable[[str], Path], folder: Path) -> None:
    (folder / "text.model").write_text("no model")
    text = BASE + "targets: [energy_per_atom]\nmodel: {kind: mace, foundation: text.model}\n"
    campaign = load_campaign(write(text))
    with pytest.raises(InputError, match="model cannot learn KBr: model.foundation must be a MACE model but got"):
        check_inputs(campaign)


RENORMALISED = "{kind: phonon, imaginary: renormalise, statistics: classical}"


@pytest.mark.parametrize("sampler", [RENORMALISED, f"{{kind: mixture, parts: [{{sample: {RENORMALISED}}}]}}"])
def test_renormalised_phonons_have_the_statistics_of_the_draws(sampler: str, write: Callable[[str], Path]) -> None:
    arms = f"arms:\n  warm: {{sample: {sampler}, select: random}}\n  random: {{sample: random, select: random}}\n"
    with pytest.raises(InputError) as error:
        load_campaign(write(BASE + arms))
    assert "renormalise.statistics must be classical, as arms.warm.sample draws but got quantum; write" in str(
        error.value
    )
    systems = "systems: [{structure: KBr.vasp, renormalise: {statistics: classical}}]\nlabel: xtb\n"
    assert load_campaign(write(systems + arms)).systems[0].renormalise.statistics == "classical"
