from typing import Any

import pytest

from plots import svg


def _draw(figure: Any) -> None:
    figure.subplots().set_title("a title")


def test_an_element_with_its_words_as_text_and_no_date() -> None:
    text = svg(_draw, (4, 2))
    assert text.startswith("<svg") and text.rstrip().endswith("</svg>")
    assert ">a title<" in text and "dc:date" not in text
    assert text == svg(_draw, (4, 2))


@pytest.mark.parametrize("transparent", [True, False])
def test_background_where_it_is_asked_for(transparent: bool) -> None:
    assert ("fill: #ffffff" in svg(_draw, (4, 2), transparent)) is not transparent
