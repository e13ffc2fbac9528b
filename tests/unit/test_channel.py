"""What a child process prints, cut into lines."""

import os

import pytest

from aiflow_sdk import channel
from aiflow_sdk.channel import OutputReader


class Printing:
    """A pipe that somebody prints to."""

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        self._reader = OutputReader(reading)

    def says(self, text: str) -> list[str]:
        """Print, and return the lines that are there then."""
        os.write(self._writing, text.encode())
        return [line.decode() for line in self._reader.lines()[0]]

    def ends(self) -> str:
        """Close the pipe and return what was left."""
        os.close(self._writing)
        assert self._reader.lines()[1]
        os.close(self._reader.handle)
        return self._reader.rest().decode()


@pytest.fixture
def printing(monkeypatch: pytest.MonkeyPatch) -> Printing:
    monkeypatch.setattr(channel, "PROGRESS_SECONDS", 0.0)  # five in truth
    return Printing()


def test_lines_come_when_they_end(printing: Printing) -> None:
    assert printing.says("one\ntw") == ["one"]
    assert printing.says("o\r\nthree\r") == ["two"]
    assert printing.says("\n\n") == ["three", ""]
    assert printing.says("rest") == []
    assert printing.ends() == "rest"


def test_a_progress_bar_is_told_while_it_moves_and_its_end_once(printing: Printing) -> None:
    assert printing.says("\r 10%") == []
    assert printing.says("\r 20%\r 30%") == [" 20%"]
    assert printing.says("\r100%\n") == ["100%"]
    assert printing.says("\r 1%\r 2%") == [" 1%"]
    assert printing.says("\r 2%\r") == [" 2%"]
    assert printing.says("\nafter\n") == ["after"]
    assert printing.says("\r 8%\r 9%") == [" 8%"]
    assert printing.ends() == " 9%"


def test_a_progress_bar_is_told_every_few_seconds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PROGRESS_SECONDS", 600.0)  # likewise: no state falls due
    printing = Printing()
    told = [line for number in range(1000) for line in printing.says(f"\r{number}")]
    assert len(told) <= 1
    assert printing.says("\ndone\n") == ["999", "done"]
    assert printing.ends() == ""


def test_a_line_that_does_not_end_comes_in_pieces_of_whole_words(
    printing: Printing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "LONGEST_BYTES", 10)  # 64 KiB in truth
    assert printing.says("abc defgh ijklm") == ["abc defgh "]
    assert printing.says("x" * 24) == ["ijklmxxxxx", "x" * 10]
    assert printing.ends() == "x" * 9
