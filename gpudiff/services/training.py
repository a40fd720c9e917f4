"""Samples for the real/bogus model: of simulated scenes, of pairs, of a night's frames and templates."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from gpudiff.edges.fits import read_frame
from gpudiff.edges.sources import read_table
from gpudiff.edges.templates import TemplateStore
from gpudiff.model.config import Configuration, override
from gpudiff.model.errors import InputRejected, UnreadableFile
from gpudiff.model.frame import Difference, Frame
from gpudiff.model.hard_scene import SCENES, hard_scene, night_of_scene
from gpudiff.model.scene import TRUTH, Night
from gpudiff.model.tables import DIASOURCE, Table, concatenate
from gpudiff.science.hard_pair import hard_pair
from gpudiff.science.reliability_features import features
from gpudiff.science.reliability_labels import by_truth, inject, injected, repeated
from gpudiff.science.reliability_training import Sample
from gpudiff.science.subtract import subtract

INJECTED = 40
"""Stars put into each real frame."""
WORSE = {"spatial_order": 0, "half_width": 6, "candidates": 30}
"""Settings of a poor match: every other seed of a scene is subtracted so, for residuals like a real survey's."""


def of_scenes(
    names: Iterable[str], seeds: Iterable[int], size: int, configuration: Configuration
) -> Iterator[tuple[str, Difference, Table, np.ndarray]]:
    """(name, difference, sources, which are real) of each simulated scene; odd seeds with a poor match."""
    for name in names:
        for seed in seeds:
            scene = hard_scene(name)
            pair = hard_pair(scene, night_of_scene(scene, dataclasses.replace(Night(), seed=seed), size), size)
            settings = override(configuration, "match", **WORSE) if seed % 2 else configuration
            difference, sources = subtract(pair.science, pair.template, settings)
            yield f"{name}-{seed}", difference, sources, by_truth(sources, pair.truth)


def scenes_sample(scenes: int, first_seed: int, size: int, configuration: Configuration) -> Iterator[Sample]:
    """One Sample a scene: every hard scene with so many seeds."""
    seeds = range(first_seed, first_seed + scenes)
    for number, (_, difference, sources, real) in enumerate(of_scenes(SCENES, seeds, size, configuration)):
        yield _sample(features(difference, sources), real, number)


def folder_sample(folder: Path, first: int, seed: int, configuration: Configuration) -> list[Sample]:
    """The samples of one folder, its frames numbered from `first`.

    folder : a pair as `gpudiff simulate --scene` makes it, or a night with frames/ and templates/; with a
    truth.ecsv its changes count as real too
    Raises UnreadableFile for a folder that is neither; a frame that cannot be subtracted is left out.
    """
    truth = read_table(folder / "truth.ecsv", TRUTH) if (folder / "truth.ecsv").exists() else None
    found = []
    for number, (frame, template) in enumerate(_pairs(folder, configuration), first):
        try:
            found.append((number, frame, template, *subtract(frame, template, configuration)))
        except InputRejected:
            continue
    everything = concatenate([sources for *_, sources in found] or [Table.empty(DIASOURCE)])
    return [_of_frame(*one, everything, truth, seed, configuration) for one in found]


def _of_frame(
    number: int,
    frame: Frame,
    template: Frame,
    difference: Difference,
    sources: Table,
    everything: Table,
    truth: Table | None,
    seed: int,
    configuration: Configuration,
) -> Sample:
    """What the frame itself shows, and what is found of the stars that are put into it."""
    real = np.zeros(len(sources), bool) if truth is None else by_truth(sources, _on(truth, frame))
    left_out = repeated(sources, everything) & ~real
    filled, x, y = inject(frame, difference, seed + number, INJECTED)
    again, more = subtract(filled, template, configuration)
    new = injected(more, x, y)
    rows = np.concatenate([features(difference, sources)[~left_out], features(again, more)[new]])
    return _sample(rows, np.concatenate([real[~left_out], np.ones(int(new.sum()), bool)]), number)


def _on(truth: Table, frame: Frame) -> Table:
    of = frame.observation.frame
    return truth.take((truth["visit"] == of.visit) & (truth["detector"] == of.detector))


def _pairs(folder: Path, configuration: Configuration) -> Iterator[tuple[Frame, Frame]]:
    """Science frames with their templates."""
    instrument = configuration.instrument
    if (folder / "science.fits").exists():
        yield read_frame(folder / "science.fits", instrument), read_frame(folder / "template.fits", instrument)
        return
    if not (folder / "frames").is_dir() or not (folder / "templates").is_dir():
        raise UnreadableFile(
            f"{folder}: expected a night with frames/ and templates/, or a pair of science.fits and template.fits"
        )
    store = TemplateStore(folder / "templates", instrument)
    for path in sorted((folder / "frames").glob("*.fits*")):
        frame = read_frame(path, instrument)
        yield frame, store.find(frame)


def _sample(rows: np.ndarray, real: np.ndarray, number: int) -> Sample:
    return Sample(rows, real, np.full(len(rows), number))
