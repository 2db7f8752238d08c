"""The page of `bundle --web` in figures: how long a browser takes for a picture, as Markdown.

    python cli.py bundle --web --out digits.bundle
    python benchmarks/browser.py digits.bundle-web

The page is opened in a headless Chromium from a static server, and its self-test has to pass. Then the
page's own network classifies one made-up picture again and again; the time of a call is taken in the page,
from uint8 pixels to probabilities. Run the script on a machine that does nothing else.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from browser import chromium, served
from web_pages import TESTED

from benchmarks.markdown import machine_lines, markdown_table
from runtimes.timing import summary

CALLS = 300
COLUMNS = ["network", "browser", "opened and tested ms", "p50 ms", "p90 ms", "p99 ms", "calls"]
# Runs in the page. The first calls are not timed, because V8 compiles while they run.
_TIMED_CALLS = """
const { Network } = await import("/network.js");
const description = await (await fetch("page.json")).json();
const model = new Uint8Array(await (await fetch(description.model)).arrayBuffer());
const network = await Network.open(description, model);
const picture = description.size * description.size * 3;
const pixels = Uint8Array.from({ length: picture }, (_, index) => (index * 37) % 256);
const times = [];
for (let call = 0; call < arguments[0] + 20; call++) {
  const { milliseconds } = await network.classify(pixels);
  if (call >= 20) times.push(milliseconds);
}
return times;
"""


def main() -> None:
    """Print the table of one page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path, help="the folder that `bundle --web` wrote")
    print(f"{machine_lines()}\n\n{markdown_table(COLUMNS, [row_of(parser.parse_args().page)])}")


def row_of(page: Path) -> list[str]:
    """Open a page, wait for its verdict and time its network.

    Raises:
        SystemExit: the self-test of the page does not pass.
    """
    with tempfile.TemporaryDirectory() as profile, served(page) as address, chromium(Path(profile)) as window:
        window.open(address)
        window.wait(TESTED)
        if window.script("return document.getElementById('verdict').dataset.state") != "pass":
            sys.exit(f"the self-test of {page} does not pass: {window.text('#verdict')}")
        opened = window.script("return performance.now()")
        times = window.script(f"return (async (...arguments) => {{{_TIMED_CALLS}}})(...arguments)", CALLS)
        agent = window.script("return navigator.userAgent.match(/Chrome\\/[0-9.]+/)[0]")
    description = json.loads((page / "page.json").read_text())
    return [description["subtitle"], agent, f"{opened:.0f}", *percentiles(times), str(len(times))]


def percentiles(times: list[float]) -> list[str]:
    """The 50th, 90th and 99th percentile of durations in milliseconds."""
    latency = summary([milliseconds / 1000 for milliseconds in times], batch=1)
    return [f"{part:.2f}" for part in (latency.p50_ms, latency.p90_ms, latency.p99_ms)]


if __name__ == "__main__":
    main()
