"""How fast a table becomes an image: Gaussians of each uncertainty and counts, with the TIFF and the PNG.

    python benchmarks/rendering.py [--emitters 5000000] [--side-um 60] [--pixels-nm 10 5] [--repeats 3]

The table is made: filaments across the field, uncertainties of 5 to 25 nm. A first small image, which compiles, comes
before the clock starts. Peak memory is that of the process, the table in it.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from support import print_table, run

from varcli.emitters.figures.render import Renderer, Rendering
from varcli.emitters.table import EmitterTable

_FILAMENTS = 400


def make_table(emitters: int, side_nm: float, seed: int = 0) -> EmitterTable:
    """Emitters scattered round straight filaments, in the order of frames, which is none in space."""
    rng = np.random.default_rng(seed)
    start, end = rng.uniform(0, side_nm, (2, _FILAMENTS, 2))
    which, along = rng.integers(_FILAMENTS, size=emitters), rng.uniform(size=(emitters, 1))
    sd = rng.uniform(5, 25, (emitters, 2))
    place = start[which] + along * (end - start)[which] + sd * rng.normal(size=(emitters, 2))
    frame = np.sort(rng.integers(0, 20_000, emitters))
    return EmitterTable(frame, place[:, 0], place[:, 1], sd_x_nm=sd[:, 0], sd_y_nm=sd[:, 1])


def seconds(table: EmitterTable, side_nm: float, pixel_nm: float, style: str, folder: Path) -> list[float]:
    """Seconds of drawing, of the TIFF and of the PNG."""
    began = time.perf_counter()
    renderer = Renderer(side_nm, side_nm, pixel_nm)
    renderer.add(table) if style == "gaussian" else renderer.count(table)
    drawn = time.perf_counter()
    renderer.save_tiff(folder / "image.tif")
    written = time.perf_counter()
    renderer.save_png(folder / "image.png", Rendering(pixel_nm).colormap)
    return [drawn - began, written - drawn, time.perf_counter() - written]


def main() -> None:
    """Every style and pixel size, medians over repeats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emitters", type=int, default=5_000_000)
    parser.add_argument("--side-um", type=float, default=60.0)
    parser.add_argument("--pixels-nm", type=float, nargs="+", default=[10.0, 5.0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    side_nm = 1000 * options.side_um
    table = make_table(options.emitters, side_nm)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for style in ("gaussian", "histogram"):
            seconds(make_table(50_000, side_nm), side_nm, 100.0, style, Path(name))
            for pixel_nm in options.pixels_nm:
                taken = [seconds(table, side_nm, pixel_nm, style, Path(name)) for _ in range(options.repeats)]
                parts = [median(part) for part in zip(*taken, strict=True)]
                side = round(side_nm / pixel_nm)
                whole = median(sum(one) for one in taken)
                rows.append([f"{style}, {pixel_nm:g} nm", f"{side}²", *(f"{part:.2f}" for part in (*parts, whole))])
    print_table(["image", "pixels", "draw [s]", "TIFF [s]", "PNG [s]", "in all [s]"], rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{options.emitters} emitters; peak memory {peak:.0f} MB")


if __name__ == "__main__":
    run(main)
