"""The page of a run: what it holds, and that a browser draws and plays it without complaint or network."""

import base64
import importlib.util
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from cli_support import assert_refused, run, run_json, save_midi, save_tiny, tiny_config

from varcli.pianoroll.figures.sample_page import Progress, entry, sample_page
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import ONSET, Roll, Vocabulary

if importlib.util.find_spec("tornado"):
    from browser_support import CHROMIUM, Page, in_browser
else:
    CHROMIUM = None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def sampled(model: Path, folder: Path, *more: object) -> dict[str, Any]:
    words = ("sample", "--mode", "unconditional", "--checkpoint", model, "--target-width", 48, "--device", "cpu")
    return run_json(*words, "--num-samples", 2, "--html", "--output-dir", folder, *more)


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def test_a_run_has_one_page_of_all_its_samples(tmp_path: Path, model: Path) -> None:
    document = sampled(model, tmp_path / "one")
    path = tmp_path / "one" / "unconditional.html"
    assert document["page"] == str(path)
    page = path.read_text()
    assert "http" not in page.replace("http-equiv", "")
    data = data_of(page)
    assert [one["name"] for one in data["samples"]] == ["unconditional_000", "unconditional_001"]
    for said, shown in zip(document["samples"], data["samples"], strict=True):
        assert base64.b64decode(shown["midi"]) == Path(said["midi"]).read_bytes()
        assert len(shown["notes"]) == said["notes"]
        assert shown["nats"] == pytest.approx(said["nats_per_note"], abs=1e-3)
        sound = soundfile.info(io.BytesIO(base64.b64decode(shown["sound"])))
        assert (sound.format, sound.channels) == ("MP3", 1)
        assert sound.duration == pytest.approx(48 / 8 + 1.5, abs=0.1)
    sampled(model, tmp_path / "two")
    assert (tmp_path / "two" / path.name).read_text() == page
    words = ("sample", "--mode", "unconditional", "--checkpoint", model, "--target-width", 48, "--html")
    assert_refused(run(*words, "--output-dir", tmp_path / "one"), 2, "exists")


def test_notes_know_in_which_frame_each_part_of_them_sounds() -> None:
    cells = np.zeros((128, 8), np.uint8)
    cells[60, :6] = [ONSET + 3, 1, 1, 1, 1, 1]
    cells[64, 4] = ONSET
    frames = np.stack([np.zeros_like(cells), np.where(np.arange(8) < 4, cells, 0), cells])
    kept = np.zeros(cells.shape, bool)
    kept[64, 4] = True
    roll = Roll(cells, Vocabulary(), kept=kept)
    shown = entry(
        roll, Progress(frames, ("Init", "a", "b"), ((), (), ())), stem="x", midi=b"", sound=b"", nats_per_note=None
    )
    (low, high) = shown["notes"]
    assert low[:2] + low[3:] == [60, 0, 0, [4, 1], [2, 2]]
    assert high[:2] + high[3:] == [64, 4, 1, [1, 2]]
    data = data_of(sample_page("</script> & <b>", ("a", "b"), [shown], kept=True))
    assert data["pitches"][0] <= 60 < 64 < data["pitches"][1]
    assert data["legend"] == [["kept", 1]]
    assert data["samples"][0]["tempos"] == [[0, 0, 8]]
    slower = entry(
        roll,
        Progress(frames, (), ()),
        stem="x",
        midi=b"",
        sound=b"",
        nats_per_note=None,
        tempos=[(0, 500_000), (4, 1_000_000)],
    )
    assert slower["tempos"] == [(0, 0, 8), (4, 0.5, 4)]
    assert "<b>" not in sample_page("<b>", ("<b>",), [shown])


@pytest.mark.parametrize(
    "words",
    [
        ("continuation", "--prompt-steps", 16, "--target-width", 48),
        ("inpainting", "--region", "8:16", "--gif", "--save-frames"),
        ("harmonise", "--scale", "C:major", "--max-polyphony", 3),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_sound_page_and_score_go_with_every_mode(tmp_path: Path, words: tuple[object, ...], kind: str) -> None:
    config = tiny_config(kind)
    config = config.model_copy(update={"model": config.model.model_copy(update={"conditioning": True})})
    model = save_tiny(tmp_path / "tiny.safetensors", FractalModel(config))
    prompt = save_midi(tmp_path / "prompt.mid")
    wanted = ("--audio", "flac", "--html", "--score", "musicxml", "--output-dir", tmp_path / "out", "--device", "cpu")
    document = run_json("sample", "--mode", *words, "--prompt", prompt, "--checkpoint", model, *wanted)
    (said,) = document["samples"]
    for path in (said["audio"], said["score"], document["page"]):
        assert Path(path).stat().st_size > 1000
    data = data_of(Path(document["page"]).read_text())
    assert {note[3] for note in data["samples"][0]["notes"]} >= {1}
    assert ["kept", 1] in data["legend"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium, or no tornado to talk to it")
def test_a_browser_draws_and_plays_it(tmp_path: Path, model: Path) -> None:
    sampled(model, tmp_path)

    async def visit(page: "Page") -> None:
        await page.size(1280, 900)
        await page.open(tmp_path / "unconditional.html")
        one = "cards[0]"
        assert await page.run("document.querySelectorAll('article').length") == 2
        assert await page.run(f"{one}.sample.notes.length > 0 && {one}.canvas.width > 300")
        before = await page.run(f"{one}.cursor.style.transform")
        wait = "new Promise(done => setTimeout(done, 800))"
        await page.run(f"(async () => {{ {one}.play.click(); await {wait}; }})()")
        assert await page.run(f"!{one}.audio.paused && {one}.audio.currentTime > 0.1 && {one}.audio.duration > 7")
        assert await page.run(f"{one}.cursor.style.transform") != before
        await page.run("cards[1].play.click()")
        assert await page.run(
            f"(async () => {{ await {wait}; return {one}.audio.paused && !cards[1].audio.paused; }})()"
        )
        empty = f"(() => {{ {one}.show(0); return {one}.canvas.toDataURL(); }})()"
        whole = f"(() => {{ {one}.show({one}.sample.labels.length - 1); return {one}.canvas.toDataURL(); }})()"
        assert await page.run(empty) != await page.run(whole)
        for width in (1280, 390):
            await page.size(width, 844)
            assert await page.run("document.documentElement.scrollWidth") <= width
        assert not page.errors
        assert not [url for url in page.requests if not url.startswith(("file:", "blob:", "data:"))]

    in_browser(tmp_path / "profile", visit)
