"""Whatever is thrown at the loader is a constitution or a refusal that names its place."""

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_yaml import inputs, tried
from cai.yamlguard import dump_yaml
from tests.constitution.helpers import TEXT

FINE = ("loaded", "refused")


def test_mutations_of_real_files_load_or_are_refused_with_their_line():
    assert {tried(data) for data in inputs(500, seed=7)} == set(FINE)


_lines = st.lists(st.sampled_from([*TEXT.splitlines(keepends=True), "\t", "&a ", "- ", "'"]))


@settings(max_examples=100, deadline=None)
@given(_lines.map("".join))
def test_any_order_of_lines_loads_or_is_refused(text):
    assert tried(text.encode()) in FINE


def _nested(inner):
    mappings = st.dictionaries(st.text(max_size=8), inner, max_size=3)
    return st.lists(inner, max_size=3) | mappings


_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
_values = st.recursive(_scalars | st.text(max_size=8), _nested, max_leaves=12)
_keys = st.sampled_from(["name", "version", "title", "principles", "extends", "few_shot", "x"])


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(_keys, _values | st.just([{"id": "a", "compare": "Which?"}])))
def test_any_values_under_the_known_keys_load_or_are_refused(data):
    assert tried(dump_yaml(data).encode("utf-8", "surrogatepass")) in FINE
