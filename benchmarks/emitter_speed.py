"""How fast and how frugal `var super-resolve` is, from TIFF to CSV, with the defaults that quality is measured with.

    python benchmarks/emitter_speed.py FOLDER [--densities 0.1 0.5 1 2 4] [--sides 40 128 512] [--polish mle|none]
        [--peer-python PYTHON] [--memory-gb 0] [--checkpoint NAME]

Frames a second are those that the command itself says: without start-up, with reading and writing. `--peer-python` (an
interpreter with sdt-python) times 3D-DAOSTORM on the same frames in the same run. `--memory-gb 2` measures the peak of
memory in a process of its own, on 10% and on all of a stack of that size.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
import tomli_w
from emitter_sets import LAWS, SIZE_PX, Law, make_set
from emitters import write_set
from support import print_table, run

from varcli.emitters.simulation.acquisition import simulate_stack
from varcli.emitters.simulation.config import MoleculesConfig, StackConfig

_SEED = 1
_FOLDER = Path(__file__).parent


def main() -> None:
    """Measure what was asked for and print it as tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--densities", type=float, nargs="*", default=[0.1, 0.5, 1.0, 2.0, 4.0])
    parser.add_argument("--sides", type=int, nargs="*", default=[SIZE_PX, 128, 512])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--polish", choices=["mle", "none"], default="mle")
    parser.add_argument("--checkpoint", default="emitter-2d")
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--memory-gb", type=float, default=0.0)
    options = parser.parse_args()
    extra = ["--polish", options.polish, "--checkpoint", options.checkpoint]
    rows = [density_row(options, density, extra) for density in options.densities]
    head = ["emitters/µm²", "frames/s", "emitters/s"]
    print_table([*head, "3D-DAOSTORM frames/s", "ratio"] if options.peer_python else head, rows)
    if options.sides:
        print()
        print_table(["frame", "frames/s", "megapixels/s"], [side_row(options, side, extra) for side in options.sides])
    if options.memory_gb:
        print()
        shares = (0.1, 1.0)
        rows = [memory_row(options, share, extra) for share in shares]
        print_table(["share of the stack", "peak MB", "frames/s"], rows)


def density_row(options: argparse.Namespace, density: float, extra: list[str]) -> list[str]:
    """One density of 40 x 40 frames, beside the peer where there is one."""
    law = replace(LAWS["classical/scmos_d0.5"], density=density, frames=options.frames)
    folder = options.folder / f"density{density:g}"
    write_set(law, _SEED, folder)
    said = super_resolve(folder, folder / "stack.tif", extra)
    row = [f"{density:g}", f"{said['frames_per_second']:.0f}"]
    row.append(f"{said['emitters'] * said['frames_per_second'] / options.frames:.0f}")
    if options.peer_python:
        code = (
            "import sys, time; import emitter_peers as p, emitter_sets as s; from dataclasses import replace;"
            f"law = replace(s.LAWS['classical/scmos_d0.5'], density={density!r}, frames={options.frames});"
            f"counts, _ = s.make_set(law, {_SEED}); p.daostorm(law, counts[:3], law.sigma_px, 16);"
            "t = time.perf_counter(); p.daostorm(law, counts, law.sigma_px, 16); print(time.perf_counter() - t)"
        )
        path = os.pathsep.join([str(_FOLDER), str(_FOLDER.parent)])
        done = subprocess.run(
            [options.peer_python, "-c", code],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        peer = options.frames / float(done.stdout)
        row += [f"{peer:.0f}", f"{said['frames_per_second'] / peer:.1f}"]
    return row


def side_row(options: argparse.Namespace, side: int, extra: list[str]) -> list[str]:
    """Frames of another size at 0.5 emitters per µm², as many pixels in all."""
    folder = options.folder / f"side{side}"
    folder.mkdir(parents=True, exist_ok=True)
    frames = max(16, round(options.frames * (SIZE_PX / side) ** 2))
    config = StackConfig(frames=frames, height=side, width=side, molecules=MoleculesConfig(on_frames=0.0))
    parts = [part for part, _ in simulate_stack(config, _SEED)]
    tifffile.imwrite(folder / "stack.tif", np.concatenate(parts), photometric="minisblack")
    camera = config.camera.model_dump(exclude_none=True)
    (folder / "camera.toml").write_text(tomli_w.dumps({"camera": camera}))
    speed = super_resolve(folder, folder / "stack.tif", extra)["frames_per_second"]
    return [f"{side}²", f"{speed:.1f}", f"{speed * side**2 / 1e6:.3f}"]


def memory_row(options: argparse.Namespace, share: float, extra: list[str]) -> list[str]:
    """The peak of resident memory on a share of a stack of 512 x 512 frames."""
    folder = options.folder / "memory"
    path = folder / "stack.tif"
    if not path.exists():
        _write_large(folder, options.memory_gb)
    with tifffile.TiffFile(path) as file:
        frames = len(file.pages)
    said = super_resolve(folder, path, [*extra, "--frames", f"0:{max(1, int(frames * share))}"])
    return [f"{share:.0%}", f"{said['peak_mb']:.0f}", f"{said['frames_per_second']:.1f}"]


def _write_large(folder: Path, gigabytes: float) -> None:
    side, pieces = 512, 13
    law: Law = replace(LAWS["classical/scmos_d0.5"], density=0.1, frames=8 * pieces**2)
    write_set(replace(law, frames=8), _SEED, folder)
    frames = int(gigabytes * 2**30 / (2 * side**2))
    with tifffile.TiffWriter(folder / "stack.tif", bigtiff=True) as writer:
        for block in range(-(-frames // 8)):
            counts, _ = make_set(law, _SEED + block)
            mosaic = counts.reshape(8, pieces, pieces, SIZE_PX, SIZE_PX).transpose(0, 1, 3, 2, 4)
            mosaic = mosaic.reshape(8, pieces * SIZE_PX, pieces * SIZE_PX)[: frames - 8 * block, :side, :side]
            for frame in mosaic:
                writer.write(np.ascontiguousarray(frame), photometric="minisblack", contiguous=True)


def super_resolve(folder: Path, stack: Path, extra: list[str]) -> dict[str, float]:
    """What the command says of itself, after a short run that compiles, and its peak of memory in MB."""
    call = ["super-resolve", str(stack), "--camera", str(folder / "camera.toml"), "--map", "none", "--render", "none"]
    call += ["--output-dir", str(folder / "out"), "--overwrite", "--json", *extra]
    before_frames = call[: call.index("--frames")] if "--frames" in call else call
    warm = [*before_frames, "--frames", "0:8"]
    code = (
        "import resource, sys; from varcli.cli.app import app\n"
        "try: app(sys.argv[1:], prog_name='var')\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=sys.stderr)"
    )
    subprocess.run([sys.executable, "-c", code, *warm], capture_output=True, check=True)
    done = subprocess.run([sys.executable, "-c", code, *call], capture_output=True, text=True, check=True)
    return json.loads(done.stdout) | {"peak_mb": float(done.stderr.splitlines()[-1])}


if __name__ == "__main__":
    run(main)
