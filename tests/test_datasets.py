"""A further kind of data set is one function and one registration: it is read, scored and compared."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_support import run_json, save_tiny, tiny_config

import varcli
from varcli.pianoroll.corpus.arrays import READERS, Split
from varcli.pianoroll.model.fractal import FractalModel

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def read_voices(path: Path) -> Iterator[tuple[str, Split, np.ndarray]]:
    """Pieces of the JSON of JSB-Chorales-dataset: per split a list of chorales, each a list of steps of four pitches,
    -1 where a voice is silent. Source: https://github.com/czhuang/JSB-Chorales-dataset."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for split in SPLITS:
        for number, chorale in enumerate(content[split]):
            cells = np.zeros((128, len(chorale)), np.uint8)
            for step, pitches in enumerate(chorale):
                cells[[pitch for pitch in pitches if pitch >= 0], step] = 1
            yield f"{split}_{number:03d}", split, cells


def test_a_registered_data_set_is_scored_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, ".json", read_voices)
    rng = np.random.default_rng(0)
    steps = rng.integers(-3, 4, (3, 32, 1)) + np.array([60, 64, 67, 48])
    steps[:, ::8, 3] = -1
    path = tmp_path / "chorales.json"
    path.write_text(json.dumps({split: [steps[index].tolist()] for index, split in enumerate(SPLITS)}))
    model = save_tiny(tmp_path / "binary.safetensors", FractalModel(tiny_config(binary=True)))
    scored = varcli.evaluate_likelihood(model, path, device="cpu")
    assert [(piece.name, piece.frames) for piece in scored.pieces] == [("test_000", 32)]
    assert run_json("evaluate", "likelihood", model, path, "--device", "cpu")["nats_per_frame"] == scored.nats_per_frame
    compared = varcli.evaluate_music(path, path, split="valid", window_steps=16, resamples=20)
    assert compared.document()["velocity_bins"] is None and compared.comparison.training[0].name == "train_000"
