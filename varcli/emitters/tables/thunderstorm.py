"""ThunderSTORM's CSV: nm from the corner of pixel (0, 0), frames from 1, units in the headers.

Source: Ovesny et al. 2014, and the columns described at http://www.neurocytolab.org/tscolumns. The last five columns
are our own. The provenance stands in a JSON file beside it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from varcli.emitters.tables.base import Field, FileColumn, spread_xy_nm
from varcli.emitters.tables.text import TextFormat, TextRows, header_of
from varcli.errors import VarError

_BOTH_AXES = ("uncertainty_xy [nm]", "uncertainty [nm]")


class ThunderStormRows(TextRows):
    """A ThunderSTORM table on its way into `paths`: the CSV and its JSON."""

    id_header = "id"

    def finish(self, meta: dict[str, Any]) -> None:
        super().finish(meta)
        document = {"format": "ThunderSTORM CSV", **self.field.provenance(meta)}
        self.paths[1].write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class ThunderStorm(TextFormat):
    """The format that ThunderSTORM writes and most tools read."""

    token = "csv"
    summary = "ThunderSTORM CSV, with its provenance in a .json beside it"
    ending = "_emitters.csv"
    beside = ".json"
    columns = (
        FileColumn("frame", "%d", "frame", offset=-1),
        FileColumn("x [nm]", "%.3f", "x_nm"),
        FileColumn("y [nm]", "%.3f", "y_nm"),
        FileColumn("sigma [nm]", "%.3f", "psf_sigma_nm"),
        FileColumn("intensity [photon]", "%.3f", "photons"),
        FileColumn("offset [photon]", "%.4f", "background"),
        FileColumn("bkgstd [photon]", "%.4f", "background_std"),
        FileColumn("uncertainty_xy [nm]", "%.4f", lambda table, pixel_nm: spread_xy_nm(table)),
        FileColumn("uncertainty_x [nm]", "%.4f", "sd_x_nm"),
        FileColumn("uncertainty_y [nm]", "%.4f", "sd_y_nm"),
        FileColumn("uncertainty_photon [photon]", "%.4f", "sd_photons"),
        FileColumn("crlb_xy [nm]", "%.4f", "crlb_xy_nm"),
        FileColumn("probability", "%.5f", "probability"),
    )
    place = ("frame", "x [nm]", "y [nm]")
    first_frame = 1
    also = ("id", *_BOTH_AXES)
    hint = "export the table with positions in nm and with frames"

    def recognises(self, path: Path, head: bytes) -> bool:
        names = {name.split(" [")[0] for name in header_of(head) if " [" in name}
        return {"x", "y"} <= names

    def rows(self, paths: Sequence[Path], field: Field) -> ThunderStormRows:
        return ThunderStormRows(paths, self.columns, field)

    def lacks(self, name: str, header: Sequence[str]) -> str:
        other = [given for given in header if given.split(" [")[0] == name.split(" [")[0]]
        return f"has {other[0]!r} where {name!r} is needed" if other else super().lacks(name, header)

    def derive(
        self, path: Path, columns: dict[str, np.ndarray], found: dict[str, np.ndarray], meta: dict[str, Any]
    ) -> None:
        # One uncertainty serves both axes where they are not given apart.
        both = next((columns[name] for name in _BOTH_AXES if name in columns), None)
        if both is not None and not {"sd_x_nm", "sd_y_nm"} & found.keys():
            found["sd_x_nm"] = found["sd_y_nm"] = both
        meta |= _provenance(self.companions(path)[0])


def _provenance(path: Path) -> dict[str, Any]:
    """What the JSON beside a table of ours holds; {} where there is none, since other tools write none."""
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise VarError(f"{path}: not JSON", "it holds the provenance of the table beside it: move it away") from None
    ours = isinstance(document, dict) and document.get("format") == "ThunderSTORM CSV"
    return {key: value for key, value in document.items() if key != "format"} if ours else {}
