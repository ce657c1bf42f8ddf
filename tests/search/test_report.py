"""The summary laid out for a terminal, a README and a browser."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from search.report import TerminalReport, render_html, render_markdown
from search.summary import summarise
from tests.search import record_fixtures as fixtures
from tts.options import Options


def printed(width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(TerminalReport(summarise(fixtures.result())))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_figure_is_cut_at_any_width(width: int) -> None:
    text = printed(width)
    for figure in ("400 ms", "100 ms", "286 MiB", "2.99", "4.0 %"):
        assert figure in text
    assert "Trial 2" in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_a_wide_terminal_gets_rows_and_a_narrow_one_columns() -> None:
    assert re.search(r"winner +│ +2 +│ bf16", printed(200))
    assert re.search(r"latency p50 +│ 400 ms +│ 100 ms", printed(80))


def test_markdown_tables_are_whole() -> None:
    text = render_markdown(fixtures.result())
    table = [line for line in text.splitlines() if line.startswith("| ")][:4]
    assert len({line.count("|") for line in table}) == 1
    assert "| oom | 1 |" in text
    assert "| judge | 20 s |" in text
    assert "\n\nTrial 2 (" in text


def test_html_needs_no_network_and_is_well_formed_where_it_matters() -> None:
    page = render_html(fixtures.result(), {"winner: u00": b"RIFF"})
    assert "http" not in page
    assert "data:audio/wav;base64,UklGRg==" in page
    (svg,) = re.findall(r"<svg.*?</svg>", page)
    dots = ET.fromstring(svg).findall("circle")
    assert len(dots) == 4  # all that ran; the one that crashed has no figures


def test_html_escapes_what_it_is_given() -> None:
    record = fixtures.record(1, environment={"device_name": "<script>alert(1)</script>"})
    page = render_html(fixtures.result((record,), baseline=record))
    assert "<script" not in page


def test_html_of_a_study_without_figures_has_no_picture() -> None:
    nothing = fixtures.record(0, role="baseline", options=Options(), metrics={}, verdict=None)
    assert "<svg" not in render_html(fixtures.result((nothing,)))
