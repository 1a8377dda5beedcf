"""Every wrong file ends in one sentence: file, line, key, what was expected, "but got" the value, the remedy."""

# ruff: noqa: E501  sentences stay whole, so that a search finds them
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from activeph.config import check_inputs, load_campaign
from activeph.errors import InputError
from activeph.kinds import known_kinds

SYSTEM = "systems: [{structure: KBr.vasp}]\n"
BASE = SYSTEM + "label: xtb\n"
KEYS = "name, seed, systems, targets, temperatures, arms, baseline, pool, label, low_fidelity, model, budget, ledger, test, execute"
NESTED = "must hold at most 20000 values in 40 levels but got more; remove anchors that repeat one another"
YAML = "check indentation, colons, brackets and quotes"
BOMB = "".join(f"{b}: &{b} [{','.join(f'*{a}' for _ in range(9))}]\n" for a, b in zip("abcd", "bcde", strict=True))
MATRIX = "must be three positive integers or a 3x3 integer matrix of determinant 1 to 1000"
SPENT = "number of labels each repeat of each arm may spend, the initial ones included; what fails is replaced (default 250)"
LABELERS = ", ".join(known_kinds("labelers"))
WRONG = {
    "empty": ("", "c.yaml must hold a mapping of keys to values but got an empty file; write one with 'activeph init'"),
    "list": ("- a\n", "c.yaml:1 must hold a mapping of keys to values but got ['a']; write one 'key: value' per line"),
    "tab": ("systems:\n\t- a\n", "c.yaml:2 must be indented by spaces but got a tab; replace every tab by spaces"),
    "colon": (
        "systems\nlabel: xtb\n",
        f"c.yaml:2 must be YAML but got 'label: xtb' (mapping values are not allowed here); {YAML}",
    ),
    "unclosed bracket": (
        BASE + "budget: {labels: 10\n",
        "c.yaml:4 must be YAML but got the end of the file (expected ',' or '}', but got '<stream end>'); " + YAML,
    ),
    "two documents": (BASE + "---\n", f"c.yaml:3 must be YAML but got '---' (but found another document); {YAML}"),
    "unknown anchor": (
        BASE + "seed: *x\n",
        f"c.yaml:3 must be YAML but got 'seed: *x' (found undefined alias 'x'); {YAML}",
    ),
    "anchor bomb": ("a: &a [1, 2]\n" + BOMB, f"c.yaml:1 {NESTED}"),
    "endless anchor": ("a: &a [*a]\n", f"c.yaml:1 {NESTED}"),
    "deep": ("a: " + "[" * 3000, "c.yaml:1 must nest at most 40 levels but got more; flatten it"),
    "tag": (
        BASE + "seed: !!python/object/apply:os.system [ls]\n",
        "c.yaml:3 must be a plain value but got the tag 'tag:yaml.org,2002:python/object/apply:os.system'; remove the tag",
    ),
    "list as key": (
        BASE + "? [a, b]\n: 1\n",
        "c.yaml:3 must have words as keys but got a list or mapping as key; quote the key",
    ),
    "endless number": (
        BASE + "seed: " + "9" * 5000,
        f"c.yaml:3 must be a number but got '{'9' * 49}…'; write fewer digits or quotes",
    ),
    "repeated key": (
        BASE + "seed: 1\nseed: 2\n",
        "c.yaml:4: 'seed' must be given once but got it here and in line 3; remove or rename one",
    ),
    "repeated arm": (
        BASE + "arms:\n  a: {sample: phonon, select: random}\n  a: {sample: random, select: random}\n",
        "c.yaml:5: 'a' must be given once but got it here and in line 4; remove or rename one",
    ),
    "misspelt key": (
        BASE + "budgets: {labels: 10}\n",
        f"c.yaml:3: the campaign file must have no other keys than {KEYS} but got 'budgets'; did you mean 'budget'?",
    ),
    "foreign key": (
        BASE + "colour: blue\n",
        f"c.yaml:3: the campaign file must have no other keys than {KEYS} but got 'colour'; remove it",
    ),
    "misspelt nested key": (
        BASE + "budget:\n  lables: 10\n",
        "c.yaml:4: budget must have no other keys than labels, initial, batch, repeats, target_error, core_hours but got 'lables'; "
        "did you mean 'labels'?",
    ),
    "no labeler": (
        SYSTEM,
        "c.yaml:1: label must be given but got nothing; add it, meaning: labeler: the electronic-structure code and its "
        "settings",
    ),
    "no systems": (
        "systems: []\nlabel: xtb\n",
        "c.yaml:1: systems must have 1 items or more but got []; meaning: crystals of the campaign: structure files, or "
        "mappings with at least the key structure",
    ),
    "no structure": (
        "systems: [{name: a}]\nlabel: xtb\n",
        "c.yaml:1: systems[0].structure must be given but got nothing; add it, meaning: file with the unit cell at "
        "equilibrium, in any format that ASE reads (CIF, POSCAR, extended XYZ, ...)",
    ),
    "missing structure": (
        "label: xtb\nsystems:\n  - structure: NaCl.cif\n",
        "c.yaml:3: systems[0].structure must be the path of an existing file but got 'NaCl.cif'; "
        "there is no '{folder}/NaCl.cif'",
    ),
    "same system twice": (
        "systems: [KBr.vasp, KBr.vasp]\nlabel: xtb\n",
        "c.yaml:1: systems must have different names but got 'KBr' twice; name each system with 'name:'",
    ),
    "name of a folder": (
        BASE + "name: a/b\n",
        "c.yaml:3: name must be usable as a folder name but got 'a/b'; use letters, digits and . _ + - only, 64 at most",
    ),
    "number as name": (
        BASE + "name: 5\n",
        "c.yaml:3: name must be text but got 5; put it in quotes; meaning: name of the campaign and of its run "
        "directory; default: the file's name without its ending",
    ),
    "negative temperature": (
        BASE + "temperatures: [-150, 300]\n",
        "c.yaml:3: temperatures[0] must be greater than 0 but got -150; meaning: temperatures of the configurations in K",
    ),
    "temperature with unit": (
        BASE + "temperatures: [300 K]\n",
        "c.yaml:3: temperatures[0] must be a number but got '300 K'; write the number alone, without unit or quotes; "
        "meaning: temperatures of the configurations in K",
    ),
    "one temperature": (
        BASE + "temperatures: 300\n",
        "c.yaml:3: temperatures must be a list but got 300; meaning: temperatures of the configurations in K",
    ),
    "no number": (
        BASE + "temperatures: [.nan]\n",
        "c.yaml:3: temperatures[0] must be a finite number but got nan; meaning: temperatures of the configurations in K",
    ),
    "sign of a displacement": (
        "systems: [{structure: KBr.vasp, displacement: -0.01}]\nlabel: xtb\n",
        "c.yaml:1: systems[0].displacement must be greater than 0 but got -0.01; meaning: finite displacement for "
        "from-labeler, in Å (default 0.02)",
    ),
    "two repetitions": (
        "systems: [{structure: KBr.vasp, supercell: [2, 2]}]\nlabel: xtb\n",
        f"c.yaml:1: systems[0].supercell {MATRIX} but got [2, 2]; write for example [2, 2, 2]",
    ),
    "flat supercell": (
        "systems: [{structure: KBr.vasp, supercell: [2, 2, 0]}]\nlabel: xtb\n",
        f"c.yaml:1: systems[0].supercell {MATRIX} but got [2, 2, 0]; write for example [2, 2, 2]",
    ),
    "singular supercell": (
        "systems: [{structure: KBr.vasp, supercell: [[1, 0, 0], [1, 0, 0], [0, 0, 1]]}]\nlabel: xtb\n",
        f"c.yaml:1: systems[0].supercell {MATRIX} but got [[1, 0, 0], [1, 0, 0], [0, 0, 1]]; write for example [2, 2, 2]",
    ),
    "one atom": (
        "label: xtb\nsystems:\n  - structure: Cu.vasp\n    supercell: [1, 1, 1]\n",
        "c.yaml:4: systems[0].supercell must make a cell of at least 2 atoms but got 1; "
        "use more repetitions such as [2, 2, 2]",
    ),
    "missing force constants": (
        "systems: [{structure: KBr.vasp, force_constants: FORCE_SETS}]\nlabel: xtb\n",
        "c.yaml:1: systems[0].force_constants must be the path of an existing file but got 'FORCE_SETS'; "
        "there is no '{folder}/FORCE_SETS'",
    ),
    "unknown target": (
        BASE + "targets: [band_gab]\n",
        "c.yaml:3: targets[0] must be one of band_gap, valence_band_maximum, conduction_band_minimum, energy_per_atom, "
        "hydrostatic_stress, stress_xx, stress_yy, stress_zz, stress_yz, stress_xz, stress_xy, stress but got 'band_gab'; "
        "did you mean 'band_gap'?",
    ),
    "target twice": (
        BASE + "targets: [band_gap, band_gap]\n",
        "c.yaml:3: targets must name each target once but got 'band_gap' twice; remove the repeated one",
    ),
    "batch above budget": (
        BASE + "budget:\n  labels: 100\n  batch: 200\n",
        "c.yaml:5: budget.batch must be at most 100 (budget.labels) but got 200; lower budget.batch or raise budget.labels",
    ),
    "initial above budget": (
        BASE + "budget:\n  labels: 100\n  initial: 101\n",
        "c.yaml:5: budget.initial must be at most 100 (budget.labels) but got 101; "
        "lower budget.initial or raise budget.labels",
    ),
    "no labels": (
        BASE + "budget: {labels: 0}\n",
        f"c.yaml:3: budget.labels must be at least 1 but got 0; meaning: {SPENT}",
    ),
    "half a label": (
        BASE + "budget: {labels: 25.5}\n",
        f"c.yaml:3: budget.labels must be an integer but got 25.5; meaning: {SPENT}",
    ),
    "word for a number": (
        BASE + "budget: {labels: many}\n",
        f"c.yaml:3: budget.labels must be an integer but got 'many'; meaning: {SPENT}",
    ),
    "goal for no target": (
        BASE + "targets: [band_gap]\nbudget: {target_error: {energy_per_atom: 1}}\n",
        "c.yaml:4: budget must have target_error for targets of the campaign only but got 'energy_per_atom'; "
        "add it to targets or remove it here",
    ),
    "small pool": (
        BASE + "pool: 10\nbudget: {batch: 20}\n",
        "c.yaml:3: pool must be at least 25 (budget.initial) but got 10; raise it or lower budget.initial",
    ),
    "pool below the default batch": (
        BASE + "seed: 1\npool: 5\n",
        "c.yaml:4: pool must be at least 25 (budget.initial) but got 5; raise it or lower budget.initial",
    ),
    "batch above the default pool": (
        BASE + "budget:\n  labels: 9000\n  batch: 3000\n",
        "c.yaml:5: budget.batch must be at most 2000 (pool) but got 3000; lower it or raise pool with 'pool: 3000'",
    ),
    "spread of one member": (
        BASE + "arms:\n  a: {sample: phonon, select: uncertainty}\n  random: {sample: random, select: random}\n"
        "model:\n  kind: modes\n  members: 1\n",
        "c.yaml:8: model.members must be at least 2 for the selector uncertainty of arms.a, which takes their spread "
        "but got 1; raise it or choose another selector",
    ),
    "strategy that is not there": (
        BASE
        + "arms:\n  a:\n    sample: phonon\n    select: {kind: quota, using: {kind: modal, strategy: 'no_such_code:f'}}\n"
        "  random: {sample: random, select: random}\n",
        "c.yaml:6: arms.a.select.using.strategy must be a function that can be imported, as package.module:function but "
        "got 'no_such_code:f' (No module named 'no_such_code'); install its package or correct the path",
    ),
    "key of the default kind": (
        BASE + "model:\n  membres: 2\n",
        "c.yaml:4: model must have no other keys than kind, members, gnn, features but got 'membres'; did you mean 'members'?",
    ),
    "no default kind": (
        SYSTEM + "label: {accuracy: 1}\n",
        f"c.yaml:2: label must have a word under the key 'kind' but got {{'accuracy': 1}}; kinds are {LABELERS}",
    ),
    "unknown baseline": (
        BASE + "baseline: ranbom\n",
        "c.yaml:3: baseline must be one of the arms (active-phonon, random) but got 'ranbom'; did you mean 'random'?",
    ),
    "no baseline": (
        BASE + "arms: {a: {sample: phonon, select: lcmd}}\n",
        "c.yaml:1: baseline must be one of the arms (a) but got none and no arm that selects at random; "
        "name the arm that the others are measured against",
    ),
    "arm without selector": (
        BASE + "arms:\n  random: {sample: random}\n",
        "c.yaml:4: arms.random.select must be given but got nothing; add it, meaning: selector that chooses the batch "
        "among the candidates",
    ),
    "misspelt key of an arm": (
        BASE + "arms: {a: {sampler: random, select: random}}\n",
        "c.yaml:3: arms.a must have no other keys than sample, select but got 'sampler'; did you mean 'sample'?",
    ),
    "what is written first": (
        BASE + "arms: {a: {sample: phonon, select: lcmd}}\ntest: 50\n",
        "c.yaml:4: test must be a mapping of keys to values but got 50; meaning: the frozen test set",
    ),
    "name of an arm": (
        BASE + "arms: {a b: {sample: random, select: random}}\n",
        "c.yaml:3: arms.a b must be usable as a folder name but got 'a b'; "
        "use letters, digits and . _ + - only, 64 at most",
    ),
    "misspelt kind": (
        BASE + "arms: {random: {sample: random, select: {kind: ranom}}}\n",
        "c.yaml:3: arms.random.select: kind must name one of the selectors but got 'ranom'; did you mean 'random'?",
    ),
    "misspelt word": (
        BASE + "test: {sample: phonons}\n",
        "c.yaml:3: test.sample: kind must name one of the samplers but got 'phonons'; did you mean 'phonon'?",
    ),
    "no included file": (
        SYSTEM + "label: label-xtb.yaml\n",
        "c.yaml:2: label: label-xtb.yaml must be a readable file but got 'No such file or directory'; check the path",
    ),
    "element": (
        "systems: [ThO.vasp]\nlabel: xtb\n",
        "c.yaml:2: label cannot label ThO: label.kind xtb (GFN2-xTB) must have elements up to radon but got Th; "
        "use another label.kind.",
    ),
    "file as ledger": (
        BASE + "ledger: Cu.vasp\n",
        "c.yaml:3: ledger must be a folder of labels but got the file {folder}/Cu.vasp; choose another place",
    ),
    "ledger below a file": (
        BASE + "ledger: Cu.vasp/labels\n",
        "c.yaml:3: ledger must be a folder of labels but got the file {folder}/Cu.vasp; choose another place",
    ),
    "empty structure": (
        "systems: [empty.cif]\nlabel: xtb\n",
        "c.yaml:1: systems[0].structure must hold data but got the empty file {folder}/empty.cif; write it again",
    ),
    "unreadable structure": (
        "systems: [noise.cif]\nlabel: xtb\n",
        "c.yaml:1: systems[0].structure must be a file that ASE reads but got {folder}/noise.cif (StopIteration); "
        "try CIF, POSCAR or extended XYZ",
    ),
    "folder as structure": (
        "systems: [structures]\nlabel: xtb\n",
        "c.yaml:1: systems[0].structure must be a file but got the folder {folder}/structures; name the file in it",
    ),
    "molecule": (
        "systems: [molecule.xyz]\nlabel: xtb\n",
        "c.yaml:1: systems[0].structure must have a cell with three lattice vectors but got [[0.0, 0.0, 0.0], "
        "[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]] in {folder}/molecule.xyz; put a molecule or slab into a box with vacuum",
    ),
    "atoms that coincide": (
        "systems: [twice.vasp]\nlabel: xtb\n",
        "c.yaml:1: systems[0].structure must have atoms at least 0.5 Å apart but got 0.0479 Å; remove repeated atoms",
    ),
    "coordinates that are none": (
        "systems: [nan.vasp]\nlabel: xtb\n",
        "c.yaml:1: systems[0].structure must hold finite numbers but got nan or inf in {folder}/nan.vasp; check the file",
    ),
    "partial occupancy": (
        "systems: [disordered.cif]\nlabel: xtb\n",
        "c.yaml:1: systems[0].structure must have fully occupied sites but got an occupancy of 0.5 in "
        "{folder}/disordered.cif; choose one ordered arrangement of the atoms",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_gets_one_sentence(text: str, sentence: str, write: Callable[[str], Path], folder: Path) -> None:
    path = write(text)
    with pytest.raises(InputError) as caught:
        check_inputs(load_campaign(path))
    assert str(caught.value) == sentence.replace("{folder}", str(folder))


def test_a_folder_is_no_campaign_file(folder: Path) -> None:
    with pytest.raises(
        InputError, match="structures must be a file but got a folder; name the campaign file inside it"
    ):
        load_campaign(folder / "structures")


def test_a_missing_file(folder: Path) -> None:
    with pytest.raises(
        InputError, match="no.yaml must be a readable file but got 'No such file or directory'; check the"
    ):
        load_campaign(folder / "no.yaml")


def test_a_file_of_100_megabytes_is_refused_unread(folder: Path) -> None:
    with (folder / "big.yaml").open("wb") as stream:
        stream.truncate(100_000_000)
    with pytest.raises(InputError, match="big.yaml must be at most 200 kB but got 100000 kB; is it a campaign file?"):
        load_campaign(folder / "big.yaml")


def test_a_binary_file(folder: Path) -> None:
    (folder / "b.yaml").write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    with pytest.raises(InputError, match="b.yaml must be UTF-8 text but got byte 0x89 at 0; is it a campaign file?"):
        load_campaign(folder / "b.yaml")


def test_a_control_character(folder: Path, write: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="c.yaml must be YAML text but got unacceptable character #x0001"):
        load_campaign(write(BASE + "name: a\x01b\n"))


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.yaml")
    with pytest.raises(
        InputError, match="pipe.yaml must be a file but got a device or a pipe; save it to a file first"
    ):
        load_campaign(folder / "pipe.yaml")


def test_keys_of_a_kind_are_checked_in_their_own_class(write: Callable[[str], Path]) -> None:
    path = write(SYSTEM + "label:\n  kind: xtb\n  acuracy: 1\n")
    with pytest.raises(InputError, match=r"^c.yaml:4: label must have no other keys than kind, .*accuracy.*'acuracy'"):
        load_campaign(path)


def test_the_first_line_that_is_wrong_is_named(write: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=r"^c.yaml:3: seed"):
        load_campaign(write(BASE + "seed: a\npool: b\nname: 5\n"))


def test_files_that_include_each_other(write: Callable[[str], Path], folder: Path) -> None:
    (folder / "loop.yaml").write_text("include: loop.yaml\n")
    with pytest.raises(InputError, match=r"^c.yaml:2: label must include at most 5 files in one another but got 'loop"):
        load_campaign(write(SYSTEM + "label: loop.yaml\n"))


def test_an_included_file_is_named_with_its_own_line(write: Callable[[str], Path], folder: Path) -> None:
    (folder / "label.yaml").write_text("kind: xtb\naccuracy: [1]\n")
    with pytest.raises(InputError, match=r"^label.yaml:2: label.accuracy must be a number but got \[1\]"):
        load_campaign(write(SYSTEM + "label: label.yaml\n"))
