"""Filters that were switched off, for the log."""

from gpudiff.services.switched_off import SwitchedOff

LINE = '{"filter": "bright", "owner": "a@b.c", "reason": "slow"}\n'


def test_only_what_came_since_is_news(tmp_path):
    (tmp_path / "switched-off.jsonl").write_text(LINE)
    told = SwitchedOff(tmp_path)
    assert list(told.news()) == []
    with open(tmp_path / "switched-off.jsonl", "a") as file:
        file.write(LINE + LINE[:20])
    assert [one["filter"] for one in told.news()] == ["bright"]
    with open(tmp_path / "switched-off.jsonl", "a") as file:
        file.write(LINE[20:])
    assert [one["owner"] for one in told.news()] == ["a@b.c"]
    assert list(told.news()) == []


def test_a_line_that_a_full_disk_cut_short_is_passed_over(tmp_path):
    told = SwitchedOff(tmp_path)
    (tmp_path / "switched-off.jsonl").write_text(LINE[:20] + LINE + LINE)
    assert [one["filter"] for one in told.news()] == ["bright"]


def test_without_a_file_there_is_no_news(tmp_path):
    assert list(SwitchedOff(tmp_path).news()) == []
