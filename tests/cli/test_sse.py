"""Reading frames of Server-Sent Events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dorkos.cli.sse import ServerEvent, read_events


def test_a_frame_has_id_event_and_data() -> None:
    """The three fields of a frame come back; a comment is nothing."""
    frames = read_events([b": keepalive\n\nid: e:1\nevent: pulse.run.started\ndata: {}\n\n"])
    assert list(frames) == [ServerEvent("e:1", "pulse.run.started", "{}")]


def test_an_id_alone_moves_the_place_to_go_on_from() -> None:
    """A frame without data still tells how far the stream has come, and later frames keep that id."""
    frames = read_events([b"id: e:5\n\nevent: end\ndata: 1\n\n"])
    assert list(frames) == [ServerEvent("e:5", "", ""), ServerEvent("e:5", "end", "1")]


def test_a_frame_that_was_cut_off_is_dropped() -> None:
    """Half a frame at the end of a broken connection is not taken for a whole one."""
    assert list(read_events([b"id: e:1\nevent: a\ndata: {}"])) == []


def test_lines_end_at_line_feeds_alone() -> None:
    """U+2028, U+0085 and others within the data do not cut it, as str.splitlines would."""
    text = "a\u2028b\x85c\x0bd"
    (frame,) = read_events([f"event: x\ndata: {text}\r\n\r\n".encode()])
    assert frame.data == text


@given(st.lists(st.integers(1, 9)))
def test_it_does_not_matter_where_the_bytes_are_cut(cuts: list[int]) -> None:
    """However the network cuts the stream, within characters too, the frames are the same."""
    whole = "id: e:1\nevent: a\ndata: ü€😀\n\nid: e:2\nevent: b\ndata: 1\ndata: 2\n\n".encode()
    pieces, start = [], 0
    for cut in cuts:
        pieces.append(whole[start : start + cut])
        start += cut
    pieces.append(whole[start:])
    assert list(read_events(pieces)) == [ServerEvent("e:1", "a", "ü€😀"), ServerEvent("e:2", "b", "1\n2")]
