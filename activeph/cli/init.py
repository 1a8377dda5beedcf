"""``activeph init``: from a structure file to a commented campaign file that runs."""

from __future__ import annotations

import json
import math
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

from activeph.cli.outputs import OutputFile
from activeph.errors import InputError
from activeph.records import FloatArray
from activeph.rundir import write_bytes

Answer = TypeVar("Answer")
EDGE = 8.0  # Å: phonons of most crystals are short-sighted enough for supercells of this size
MOST_ATOMS = 100
TEMPLATE = """\
# A campaign: which configurations to label, how to choose them, and what they may cost.
# Next:  activeph check {file}   then   activeph run {file}

name: {quoted}                # runs go to runs/{name}
systems:
  - structure: {structure}  # unit cell, relaxed with the labeler of this file
    supercell: {supercell}  # what is labelled: {n_atoms} atoms
    force_constants: from-labeler  # or a file: phonopy_params.yaml, FORCE_SETS, FORCE_CONSTANTS, ...
targets: [band_gap, valence_band_maximum, energy_per_atom, hydrostatic_stress]  # drop what the labeler does not give
temperatures: [150, 300, 450, 600]  # K

arms:  # each spends the budget in its own way
  active-phonon: {{sample: phonon, select: lcmd}}  # along the phonons, diverse where the model is unsure
  random: {{sample: random, select: random}}  # random displacements of the same size: the baseline
pool: 2000  # candidates per round; they cost no labels

label:  # the electronic-structure code
{label}
model: {{kind: modes-gnn}}  # normal modes first, graph networks for what they leave
budget:
  labels: {labels}  # per arm and repeat, the initial ones included
  initial: {batch}  # drawn at random to begin with
  batch: {batch}  # added in each round
  repeats: {repeats}  # seeds of each arm: error bands come from them
test: {{sample: phonon, n: {n_test}}}  # labelled once, never trained on
execute: {{kind: processes}}  # one worker per core of this machine
"""


@click.command("init")
@click.option("--structure", type=click.Path(path_type=Path), help="Unit cell: CIF, POSCAR, extended XYZ, ...")
@click.option("--supercell", type=click.IntRange(1), nargs=3, help="Repetitions of the unit cell, such as 2 2 2.")
@click.option("--label", metavar="KIND", help="Labeler: the electronic-structure code, such as xtb.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Setting of the labeler; may be repeated.")
@click.option("--labels", type=click.IntRange(1), help="Labels that each repeat of each arm may spend.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Repeats of each arm.")
@click.option("-o", "--output", type=OutputFile(), default=Path("campaign.yaml"), show_default=True)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def command(output: Path, force: bool, settings: tuple[str, ...], **options: Any) -> None:
    """Write a commented campaign file. On a terminal, asks for what the options do not say."""
    from activeph.config import check_inputs, load_campaign
    from activeph.config.fields import folder_word
    from activeph.systems.load import read_structure

    if output.exists() and not force:
        raise InputError(f"{output} must be a new file but got one that exists; choose another with -o or add --force")
    structure = options["structure"] or _ask("--structure", "Structure file (CIF, POSCAR, ...)", _file)
    unit_cell = read_structure(structure)
    suggested = suggest_supercell(unit_cell.cell, len(unit_cell.numbers))
    supercell = options["supercell"] or _ask("--supercell", "Supercell", _three, " ".join(map(str, suggested)))
    label = _label(options["label"], settings)
    labels = options["labels"] or _ask("--labels", "Labels per arm and repeat", _count, "100")
    batch = max(1, round(labels / 10))
    name = folder_word(structure.stem.lower())
    is_plain = name[0].isalpha() and name not in ("null", "true", "false")  # else YAML might take it for a number
    values = {
        "file": output,
        "name": name,
        "quoted": name if is_plain else json.dumps(name),
        "structure": json.dumps(os.path.relpath(structure, output.parent)),
        "supercell": list(supercell),
        "n_atoms": len(unit_cell.numbers) * math.prod(supercell),
        "label": textwrap.indent(yaml.safe_dump(label, sort_keys=False, allow_unicode=True).strip(), "  "),
        "labels": labels,
        "batch": batch,
        "repeats": options["repeats"],
        "n_test": min(100, max(10, labels)),
    }
    write_bytes(output, TEMPLATE.format(**values).encode())
    click.echo(f"{output} written; next: activeph check {output}")
    check_inputs(load_campaign(output))


def suggest_supercell(cell: FloatArray, n_atoms: int) -> tuple[int, int, int]:
    """Return repetitions that make every edge 8 Å or longer while there are at most 100 atoms.

    ``cell`` is [3, 3] in Å, lattice vectors as rows. Cells of a single atom are left
    to the check of the campaign.
    """
    repetitions = [1, 1, 1]
    lengths = [math.dist(row, (0.0, 0.0, 0.0)) for row in cell]
    while min(n * length for n, length in zip(repetitions, lengths, strict=True)) < EDGE:
        shortest = min(range(3), key=lambda axis: repetitions[axis] * lengths[axis])
        longer = [n + (axis == shortest) for axis, n in enumerate(repetitions)]
        if n_atoms * math.prod(longer) > MOST_ATOMS:
            break
        repetitions = longer
    return repetitions[0], repetitions[1], repetitions[2]


def _label(kind: str | None, settings: tuple[str, ...]) -> dict[str, Any]:
    """Return the label section, with every key that has no default."""
    from activeph.config.sentences import plain
    from activeph.kinds import known_kinds, load_kind

    kind = kind or _ask("--label", f"Labeler ({', '.join(known_kinds('labelers'))})", _labeler, "xtb")
    section = load_kind("labelers", kind)
    given = dict(_setting(text) for text in settings)
    for key, field in section.model_fields.items():
        if field.is_required() and key not in given:
            given[key] = _ask(f"--set {key}=VALUE", f"label.{key} ({plain(field.description or '')})", _value)
    return {"kind": kind, **given}


def _value(text: str) -> Any:
    return _setting(f"value={text}")[1]


def _setting(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InputError(f"--set must be KEY=VALUE but got {text!r}; write for example --set accuracy=0.1")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"--set {key} must have a YAML value but got {value!r}; check brackets and quotes") from None


def _ask(option: str, question: str, read: Callable[[str], Answer], default: str | None = None) -> Answer:
    """Ask on a terminal until ``read`` accepts the answer; elsewhere take the default or say which option to give."""

    def read_again(text: str) -> Answer:
        try:
            return read(text)
        except InputError as error:
            raise click.UsageError(str(error)) from None

    if somebody_is_there():
        answer: Answer = click.prompt(question, default=default, value_proc=read_again)
        return answer
    if default is None:
        raise InputError(f"{option} must be given where nobody can be asked but got nothing; add {option}")
    return read(default)


def somebody_is_there() -> bool:
    """Return whether questions can be answered."""
    return sys.stdin.isatty()


def _file(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise InputError(f"structure must be an existing file but got {text!r}; check the path")
    return path


def _labeler(text: str) -> str:
    from activeph.kinds import load_kind

    load_kind("labelers", text)
    return text


def _three(text: str) -> tuple[int, int, int]:
    words = text.replace(",", " ").split()
    if len(words) != 3 or not all(word.isdigit() and int(word) > 0 for word in words):
        raise InputError(f"--supercell must be three positive integers but got {text!r}; write for example 2 2 2")
    return int(words[0]), int(words[1]), int(words[2])


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"--labels must be a positive integer but got {text!r}; write for example 100")
    return int(text)
