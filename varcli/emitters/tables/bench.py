"""The benchmark's plain CSV: nm from the corner of pixel (0, 0), frames from 0, no units in the headers."""

from varcli.emitters.tables.base import FileColumn
from varcli.emitters.tables.text import TextFormat


class Bench(TextFormat):
    """The table that the benchmark scores."""

    token = "bench"
    summary = "the benchmark's CSV: frame,x_nm,y_nm,photons,sigma_x_nm,sigma_y_nm,prob"
    ending = "_bench.csv"
    columns = (
        FileColumn("frame", "%d", "frame"),
        FileColumn("x_nm", "%.4f", "x_nm"),
        FileColumn("y_nm", "%.4f", "y_nm"),
        FileColumn("photons", "%.4f", "photons"),
        FileColumn("sigma_x_nm", "%.4f", "sd_x_nm"),
        FileColumn("sigma_y_nm", "%.4f", "sd_y_nm"),
        FileColumn("prob", "%.6f", "probability"),
    )
    place = ("frame", "x_nm", "y_nm")
    first_frame = 0
    hint = "the benchmark's tables have frame, x_nm and y_nm"
