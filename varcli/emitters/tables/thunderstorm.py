"""ThunderSTORM's CSV: nm from the corner of pixel (0, 0), frames from 1, units in the headers.

Source: Ovesny et al. 2014, and the columns described at http://www.neurocytolab.org/tscolumns. The last five columns
are our own. The provenance stands in a JSON file beside it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import Field, checked_table, spread_xy_nm
from varcli.emitters.tables.text import TextColumn, TextRows, header_of, read_columns
from varcli.errors import VarError

_COLUMNS = (
    TextColumn("frame", "%d", lambda table: table.frame + 1),
    TextColumn("x [nm]", "%.3f", lambda table: table.x_nm),
    TextColumn("y [nm]", "%.3f", lambda table: table.y_nm),
    TextColumn("sigma [nm]", "%.3f", lambda table: table.psf_sigma_nm),
    TextColumn("intensity [photon]", "%.3f", lambda table: table.photons),
    TextColumn("offset [photon]", "%.4f", lambda table: table.background),
    TextColumn("bkgstd [photon]", "%.4f", lambda table: table.background_std),
    TextColumn("uncertainty_xy [nm]", "%.4f", spread_xy_nm),
    TextColumn("uncertainty_x [nm]", "%.4f", lambda table: table.sd_x_nm),
    TextColumn("uncertainty_y [nm]", "%.4f", lambda table: table.sd_y_nm),
    TextColumn("uncertainty_photon [photon]", "%.4f", lambda table: table.sd_photons),
    TextColumn("crlb_xy [nm]", "%.4f", lambda table: table.crlb_xy_nm),
    TextColumn("probability", "%.5f", lambda table: table.probability),
)
# Where a column of the file goes; `uncertainty_xy` serves both axes where they are not told apart.
_READ = {
    "sigma [nm]": "psf_sigma_nm",
    "intensity [photon]": "photons",
    "offset [photon]": "background",
    "bkgstd [photon]": "background_std",
    "uncertainty_x [nm]": "sd_x_nm",
    "uncertainty_y [nm]": "sd_y_nm",
    "uncertainty_photon [photon]": "sd_photons",
    "crlb_xy [nm]": "crlb_xy_nm",
    "probability": "probability",
}
_BOTH_AXES = ("uncertainty_xy [nm]", "uncertainty [nm]")
_DERIVED = {"id", "frame", "x [nm]", "y [nm]", *_BOTH_AXES}


class ThunderStormRows(TextRows):
    """A ThunderSTORM table on its way into `paths`: the CSV and its JSON."""

    def __init__(self, paths: Sequence[Path], field: Field) -> None:
        super().__init__(paths[0], _COLUMNS, quoted=True, id_header="id")
        self._beside = paths[1]
        self._field = field

    def finish(self, meta: dict[str, Any]) -> None:
        self.end()
        document = {"format": "ThunderSTORM CSV", **self._field.provenance(meta)}
        self._beside.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class ThunderStorm:
    """The format that ThunderSTORM writes and most tools read."""

    token = "csv"
    summary = "ThunderSTORM CSV, with its provenance in a .json beside it"

    def file_name(self, stem: str) -> str:
        return f"{stem}_emitters.csv"

    def companions(self, path: Path) -> list[Path]:
        return [path.with_suffix(".json")]

    def recognises(self, path: Path, head: bytes) -> bool:
        names = {name.split(" [")[0] for name in header_of(head) if " [" in name}
        return {"x", "y"} <= names

    def rows(self, paths: Sequence[Path], field: Field) -> ThunderStormRows:
        return ThunderStormRows(paths, field)

    def read(self, path: Path, pixel_size_nm: float | None) -> EmitterTable:
        header = header_of(_first_lines(path))
        for name in ("frame", "x [nm]", "y [nm]"):
            if name not in header:
                other = [given for given in header if given.split(" [")[0] == name.split(" [")[0]]
                said = f"has {other[0]!r} where {name!r} is needed" if other else f"has no column {name!r}"
                raise VarError(f"{path}: {said}", "export the table with positions in nm and with frames")
        columns = read_columns(path, [*_READ, *_DERIVED])
        found: dict[str, Any] = {ours: columns[theirs] for theirs, ours in _READ.items() if theirs in columns}
        both = next((columns[name] for name in _BOTH_AXES if name in columns), None)
        if both is not None and not {"sd_x_nm", "sd_y_nm"} & found.keys():
            found["sd_x_nm"] = found["sd_y_nm"] = both
        meta = {
            "format": self.token,
            "columns": header,
            "ignored_columns": [name for name in header if name not in columns],
            **_provenance(self.companions(path)[0]),
        }
        return checked_table(
            path, 1, columns["frame"], x_nm=columns["x [nm]"], y_nm=columns["y [nm]"], meta=meta, **found
        )


def _first_lines(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1 << 16)


def _provenance(path: Path) -> dict[str, Any]:
    """What the JSON beside a table of ours says; {} where there is none, since other tools write none."""
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise VarError(f"{path}: not JSON", "it holds the provenance of the table beside it: move it away") from None
    ours = isinstance(document, dict) and document.get("format") == "ThunderSTORM CSV"
    return {key: value for key, value in document.items() if key != "format"} if ours else {}
