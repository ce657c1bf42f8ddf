"""How a profile is laid out: a page that needs no network and a terminal of any width."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from search.profiling.page import render
from search.profiling.record import Figure, Profile, unknown
from search.profiling.sheet import sheets, spread, write
from search.profiling.terminal import show
from tests.search import profile_fixtures as fixtures

IMAGE = re.compile(r'src="data:image/png;base64,([A-Za-z0-9+/=]+)"')


class Tags(HTMLParser):
    """Collects tags, and what they point to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.pointers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.pointers += [v or "" for k, v in attrs if k in ("src", "href", "action", "data")]


def printed(profile: Profile, width: int = 100) -> str:
    text = io.StringIO()
    show(profile, Console(file=text, width=width))
    return text.getvalue()


def test_the_page_needs_nothing_from_anywhere() -> None:
    page = render(fixtures.profile())
    tags = Tags(page)
    assert {"script", "link", "iframe", "object"}.isdisjoint(tags.names)
    assert tags.pointers
    assert all(pointer.startswith("data:image/png;base64,") for pointer in tags.pointers)
    bare = IMAGE.sub("", page)
    assert "://" not in bare
    assert "url(" not in bare
    assert "@import" not in bare


def test_the_plots_are_pictures() -> None:
    images = [base64.b64decode(data) for data in IMAGE.findall(render(fixtures.profile()))]
    assert len(images) == 3
    assert all(image.startswith(b"\x89PNG\r\n\x1a\n") for image in images)
    assert all(len(image) > 2_000 for image in images)


def test_text_is_escaped() -> None:
    page = render(fixtures.profile())
    assert "Good &lt;b&gt;morning&lt;/b&gt; &amp; hello." in page
    assert "<b>" not in page
    assert "&lt;as loaded&gt;" in page
    assert "try a &amp; b" in page


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x>', "'&\x00"])
def test_no_text_breaks_out(text: str) -> None:
    page = render(fixtures.profile(texts=(text,), title=text, notes=(text,)))
    assert Tags(page).names.count("img") == 3
    assert "script" not in Tags(page).names


def test_a_profile_without_stages_or_batches_has_no_empty_plots() -> None:
    bare = fixtures.profile(
        stages=(), parts=(), batches=(), bottlenecks=(), batches_end="not asked for",
        figures={
            "latency.p50": Figure(value=1.0, unit="s"),
            "step.roofline": unknown("this model does not tell its decode step", "share"),
        },
    )  # fmt: skip
    page = render(bare)
    assert IMAGE.findall(page) == []
    assert "unknown: this model does not tell its decode step" in page
    assert "the model does not tell its stages" in page
    assert "does not tell its stages" in printed(bare)


def test_the_terminal_says_it_all() -> None:
    text = printed(fixtures.profile())
    assert "embedded: fp32 eager dynamic b1, on A CPU (cpu, 1 thread(s)), torch 2.11.0" in text
    assert "1. Decoding takes 60%." in text
    assert "try a & b" in text
    assert "nothing that was measured says what to try" in text
    assert re.search(r"decode +600 ms +600 ms to 600 ms +60\.0 %", text)
    assert re.search(r"of which sampling +5\.0 %", text)
    assert "in all of them: copies" in text
    assert "sampling: by the host's time" in " ".join(text.split())
    assert re.search(r"launches a step; kernels a step +unknown: not on a CPU", text)
    assert re.search(r"^2 +1\.33 s +1\.5/s +4\.5 +191 MiB", text, re.M)
    assert "ended there: 4 would have taken longer" in text
    assert not re.search(r"unknown: *$", text, re.M)


def test_a_narrow_terminal_loses_no_word() -> None:
    def words(width: int) -> str:
        return "".join(sorted(re.sub(r"\s", "", printed(fixtures.profile(), width))))

    assert words(60) == words(200)


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(value=0.00131, unit="s"), "1.31 ms"),
        (Figure(value=81.4 * 2**20, unit="B"), "81.4 MiB"),
        (Figure(value=512, unit="B"), "512 B"),
        (Figure(value=4.25e12, unit="B/s"), "4.25 TB/s"),
        (Figure(value=1.5e3, unit="FLOP/s"), "1.5 kFLOP/s"),
        (Figure(value=34.7e6, unit="FLOP"), "34.7 MFLOP"),
        (Figure(value=0.171, unit="share"), "17.1 %"),
        (Figure(value=97.6, unit="%"), "98 %"),
        (Figure(value=312.4, unit="W"), "312 W"),
        (Figure(value=0.718, unit="1/s"), "0.718/s"),
        (Figure(value=17_229_058), "17,229,058"),
        (Figure(value=0.0), "0"),
        (unknown("not on a CPU", "W"), "unknown: not on a CPU"),
    ],
)
def test_a_figure_is_written_with_its_unit(figure: Figure, text: str) -> None:
    assert write(figure) == text


def test_a_spread_is_written_where_there_is_one() -> None:
    assert spread(Figure(value=2.0, unit="s", low=1.0, high=3.0)) == "1 s to 3 s"
    assert spread(Figure(value=2.0, unit="s")) == ""


def test_every_table_is_rectangular() -> None:
    for sheet in sheets(fixtures.profile()):
        assert {len(row) for row in sheet.rows} <= {len(sheet.columns)}
