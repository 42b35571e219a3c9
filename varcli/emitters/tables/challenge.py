"""The CSV of the SMLM challenges of 2013 and 2016: nm from the corner of pixel (0, 0), frames from 1.

Source: http://bigwww.epfl.ch/smlm. Ground truth names its columns Ground-truth, frame, xnano, ynano, znano and
"intensity ", with a space behind; headers are read without such spaces.
"""

from pathlib import Path
from typing import Any

import numpy as np

from varcli.emitters.tables.base import FileColumn
from varcli.emitters.tables.text import TextFormat


class Challenge(TextFormat):
    """The table that the challenges' tools compare."""

    token = "challenge"
    summary = "the SMLM challenge's CSV: frame,xnano,ynano,znano,intensity"
    ending = "_challenge.csv"
    columns = (
        FileColumn("frame", "%d", "frame", offset=-1),
        FileColumn("xnano", "%.4f", "x_nm"),
        FileColumn("ynano", "%.4f", "y_nm"),
        # Readers of the format need the column; a fit in two dimensions lies in the plane of focus.
        FileColumn("znano", "%d", lambda table, pixel_nm: np.zeros(len(table))),
        FileColumn("intensity", "%.4f", "photons"),
    )
    place = ("frame", "xnano", "ynano")
    first_frame = 1
    also = ("znano",)
    hint = "a challenge table has frame, xnano and ynano"

    def derive(
        self, path: Path, columns: dict[str, np.ndarray], found: dict[str, np.ndarray], meta: dict[str, Any]
    ) -> None:
        if columns.get("znano", np.zeros(1)).any():
            meta["ignored_columns"] = [name for name in meta["columns"] if name == "znano" or name not in columns]
