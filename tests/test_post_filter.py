"""The language of filters: what it means, what it makes of NaN, and how it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varcli.emitters.post.filter import COLUMNS, parse_filter
from varcli.emitters.table import EmitterTable
from varcli.errors import UsageError, VarError


def table(rows: int = 200) -> EmitterTable:
    rng = np.random.default_rng(3)
    x, y, photons, background, sd_x, sd_y, probability = rng.uniform(0.01, 100, (7, rows))
    return EmitterTable(
        np.arange(rows) // 4,
        *(x, y, photons, background),
        psf_sigma_nm=x + 100,
        sd_x_nm=sd_x,
        sd_y_nm=sd_y,
        probability=probability / 100,
    )


# A filter, and the same as numpy says it of t.
MEANT = {
    "photons > 30": lambda t: t.photons > 30,
    "30 < photons <= 60 < x_nm": lambda t: (t.photons > 30) & (t.photons <= 60) & (t.x_nm > 60),
    "uncertainty_xy_nm < 20 and photons > 30": lambda t: (
        (np.sqrt((t.sd_x_nm**2 + t.sd_y_nm**2) / 2) < 20) & (t.photons > 30)
    ),
    "x > 50 or y > 50 and photons > 50": lambda t: (t.x_nm > 50) | ((t.y_nm > 50) & (t.photons > 50)),
    "(x > 50 | y > 50) & photons > 50": lambda t: ((t.x_nm > 50) | (t.y_nm > 50)) & (t.photons > 50),
    "not x > 50 and y > 50": lambda t: ~(t.x_nm > 50) & (t.y_nm > 50),
    "NOT (x > 50 AND y > 50)": lambda t: ~((t.x_nm > 50) & (t.y_nm > 50)),
    "!frame == 3": lambda t: t.frame != 3,
    "1 + 2 * x - y / 4 > 100": lambda t: 1 + 2 * t.x_nm - t.y_nm / 4 > 100,
    "8 - 4 - x > 2 - 20": lambda t: 8 - 4 - t.x_nm > -18,
    "-x * -(2) > 1e2": lambda t: 2 * t.x_nm > 100,
    "sigma_nm/uncertainty_x_nm>=.5e1": lambda t: (t.x_nm + 100) / t.sd_x_nm >= 5,
    "probability != 0": lambda t: t.probability != 0,
    "1 < 2": lambda t: np.ones(len(t), bool),
    "x > 50" + " and x > 50" * 20_000: lambda t: t.x_nm > 50,
}


@pytest.mark.parametrize("text", MEANT, ids=range(len(MEANT)))
def test_a_filter_means_what_it_says(text: str) -> None:
    rows = table()
    mask = parse_filter(text).apply(rows)
    assert mask.shape == (len(rows),) and mask.dtype == bool
    np.testing.assert_array_equal(mask, MEANT[text](rows))


def test_a_nan_never_passes_and_never_hides_what_is_known() -> None:
    rows = table(4)
    assert rows.photons is not None
    rows.photons[0] = np.nan
    rows.x_nm[:] = 10
    for text in ("photons > 0", "photons <= 0 or photons > 0", "not photons < 0", "photons == photons", "photons != 3"):
        np.testing.assert_array_equal(parse_filter(text).apply(rows), [False, True, True, True], text)
    np.testing.assert_array_equal(parse_filter("photons > 0 or x < 20").apply(rows), [True] * 4)
    np.testing.assert_array_equal(parse_filter("not (photons > 0 and x > 20)").apply(rows), [True] * 4)


WRONG = {
    "photon > 3": (1, "no column 'photon'", "did you mean photons?"),
    "x_nm < 3 and uncertainty_xy < 1 and uncertinty_xy_nm < 4": (37, "no column", "did you mean uncertainty_xy_nm?"),
    "photons = 3": (9, "'=' is not understood", "equal is =="),
    "photons > ": (10, "a number or a column is missing", "for example"),
    "": (1, "a number or a column is missing", "for example"),
    "photons > 3 5": (13, "'5' is not expected here", "for example"),
    "(photons > 3": (13, "the parenthesis of character 1 is not closed", "for example"),
    "photons > 3)": (12, "')' is not expected here", "for example"),
    "photons": (1, "a number stands where a condition is needed", "for example"),
    "photons > 3 and 4": (17, "a number stands where a condition is needed", "for example"),
    "(photons > 3) + 4 > 2": (1, "a condition stands where a number is needed", "for example"),
    "x > 1 and and y > 2": (11, "a number or a column is missing before '&'", "for example"),
    "__import__('os').system('true')": (12, "is not understood", "for example"),
    "x ** 2 > 4": (4, "a number or a column is missing before '*'", "for example"),
    "(" * 300 + "x > 1" + ")" * 300: (51, "more than 50 parentheses", "for example"),
    "-" * 100_000 + "x > 1": (51, "more than 50 parentheses or signs", "for example"),
    "x" + "+x" * 100_000 + " > 1": (402, "more than 200 of + - * /", "for example"),
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_read_is_said_with_its_place(text: str) -> None:
    place, message, hint = WRONG[text]
    with pytest.raises(UsageError) as caught:
        parse_filter(text)
    assert f": at character {place}: " in caught.value.message
    assert message.replace("'''", '"\'"') in caught.value.message and hint in str(caught.value.hint)
    assert "\n" not in caught.value.message


def test_a_column_that_the_table_lacks_is_named() -> None:
    with pytest.raises(UsageError, match="the table has no column crlb_xy_nm"):
        parse_filter("crlb_xy_nm < 3").apply(table())
    with pytest.raises(UsageError, match="no column uncertainty_xy_nm"):
        parse_filter("uncertainty < 3").apply(EmitterTable(np.zeros(1, np.int64), np.zeros(1), np.zeros(1)))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*COLUMNS[:4], "1", "2.5", *"()<>+-*/&|!", "and", "not", "==", " "]), max_size=12))
def test_any_text_is_read_or_refused_in_a_line(words: list[str]) -> None:
    try:
        mask = parse_filter(" ".join(words)).apply(table(8))
    except VarError as error:
        assert "at character" in error.message
    else:
        assert mask.shape == (8,)
