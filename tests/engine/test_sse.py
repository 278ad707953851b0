"""Server-sent events out of bytes, whatever the pieces."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cai.engine.sse import EventDecoder

STREAM = (
    ": a comment\n\nevent: x\ndata: one\n\ndata:two\nid: 3\n\r\ndata: a\ndata: b\n\n\n\n"
    'data: {"é": "\u2028\x85"}\n\ndata:  two blanks\n\ndata: last'
).encode()
EVENTS = [b"one", b"two", b"a\nb", '{"é": "\u2028\x85"}'.encode(), b" two blanks", b"last"]


@given(st.lists(st.integers(1, len(STREAM)), max_size=8))
def test_events_do_not_depend_on_the_pieces(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    decoder = EventDecoder()
    events = [event for start, end in pairwise(edges) for event in decoder.feed(STREAM[start:end])]
    assert events + decoder.close() == EVENTS


def test_an_empty_stream_has_no_events():
    decoder = EventDecoder()
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n\n\n") == []
    assert decoder.close() == []
