"""A ranges file is read, or refused if a range in it is missing or upside down."""

import pytest

from artifacts.names import MODEL_REPARAMETRIZED, MODEL_REPARAMETRIZED_BN, RANGES
from calibration.ranges.ranges_from_graph import (
    ranges_from_file,
)
from errors import UserError


def entry_text(low=0, high=1, amax=1, means="[0.5]"):
    """Return the text of a ranges file with one tensor, whose entries need not be valid JSON numbers."""
    ends = f'"low": {low}, "high": {high}, "amax": {amax}'
    return text_of(f'{{"images": {{{ends}, "channel_means": {means}}}}}')


def text_of(tensors):
    return f'{{"format": 4, "graphs": {{"{MODEL_REPARAMETRIZED}": {{"tensors": {tensors}}}}}}}'


def test_twin_of_the_garbled_files_is_read(tmp_path):
    (tmp_path / RANGES).write_text(entry_text())
    (entry,) = ranges_from_file(tmp_path / RANGES, MODEL_REPARAMETRIZED).values()
    assert entry.range == (0, 1, 1)
    assert entry.channel_means.tolist() == [0.5]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "null",
        "{}",
        text_of("{}").replace("4", "3"),
        '{"format": 4}',
        '{"format": 4, "graphs": {}}',
        text_of("{}").replace(MODEL_REPARAMETRIZED, MODEL_REPARAMETRIZED_BN),
        text_of("[]"),
        text_of('{"images": null}'),
        text_of('{"images": {"low": 0, "high": 1, "channel_means": [0]}}'),
        text_of('{"images": {"low": 0, "high": 1, "amax": 1}}'),
        *(entry_text(*ends) for ends in ((0, '"wide"', 1), (0, 1, "null"), (1, 0.5, 1), (0, 1, -1))),
        *(entry_text(*ends) for ends in (("NaN", 1, 1), (0, "NaN", 1), (0, 1, "NaN"))),
        *(entry_text(*ends) for ends in ((0, "Infinity", 1), (0, 1, "1e999"))),
        *(entry_text(means=means) for means in ("1", "[]", "[[1]]", "[null]", '["x"]', "[NaN]", "[1e999]")),
        "\x00\xff",
    ],
)
def test_garbled_file_is_refused(tmp_path, text):
    path = tmp_path / RANGES
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="is not a ranges file") as caught:
        ranges_from_file(path, MODEL_REPARAMETRIZED)
    assert str(path) in caught.value.problem
    assert caught.value.fix
