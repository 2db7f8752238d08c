"""Which lines of a page become a script."""

import pytest

from tools.edge import documents
from tools.edge.documents import PAGE, script_of

TEXT = """
```sh root
apt-get install -y one
apt-get install -y two
```

```cpp
not_a_command();
```

```sh
first
```

    indented is not run

```sh
second
```
"""


def test_blocks_run_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "prefix_of_root", lambda: ["sudo", "-n"])
    lines = script_of(TEXT).splitlines()
    assert lines == [
        "sudo -n apt-get install -y one",
        "sudo -n apt-get install -y two",
        "first",
        "second",
    ]


def test_what_needs_root_is_said_where_nobody_may_be_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "prefix_of_root", lambda: None)
    lines = script_of(TEXT).splitlines()
    assert lines[0].startswith("echo 'not run, because it needs root:'")
    assert lines[1:] == ["first", "second"]


def test_the_page_has_commands_that_end_with_the_program() -> None:
    assert script_of(PAGE.read_text()).splitlines()[-1] == "app/minimal digits.bundle picture.ppm"
