"""Headers of safetensors: what is true of the file is read, what is not is refused by name."""

import json
import struct

import pytest

from cai.engine.weights import TensorInfo, read_header, tensors_of
from cai.errors import ConfigError, PolicyError


def entry(dtype="F32", shape=(2, 2), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def write(path, header, num_data=16):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(num_data))
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_names_shapes_and_dtypes_are_read(path):
    """Four floats and three bfloat16: 16 + 6 bytes, and a tensor without elements takes none."""
    header = {
        "__metadata__": {"format": "pt"},
        "b": entry(),
        "a": entry("BF16", (3,), (16, 22)),
        "none": entry("I64", (0, 5), (22, 22)),
    }
    write(path, header, 22)
    found = tensors_of(path.parent)
    assert list(found) == ["a", "b", "none"]
    assert found["a"] == TensorInfo(shape=(3,), dtype="BF16")
    assert str(found["b"]) == "F32[2, 2]"


def test_what_the_library_writes_is_read(path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    dtypes = [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float8_e4m3fn]
    tensors = {str(one): torch.zeros(3, 4).to(one) for one in dtypes}
    save_file({**tensors, "scalar": torch.tensor(1.0)}, path)
    found = tensors_of(path.parent)
    assert {one.shape for name, one in found.items() if name != "scalar"} == {(3, 4)}
    assert found["scalar"].shape == ()
    assert found["torch.bfloat16"].dtype == "BF16"


@pytest.mark.parametrize("size", [0, 5, 8, 40, 60])
def test_a_file_torn_at_any_byte_is_refused_by_name(path, size):
    write(path, {"a": entry()})
    whole = path.read_bytes()
    assert len(whole) > 60
    path.write_bytes(whole[:size])
    with pytest.raises(PolicyError, match=r"model\.safetensors: torn"):
        read_header(path)


def test_missing_data_is_counted(path):
    write(path, {"a": entry()}, num_data=13)
    with pytest.raises(PolicyError, match="the data ends 3 bytes early"):
        read_header(path)


def test_a_huge_header_is_refused_before_it_is_read(path, monkeypatch):
    monkeypatch.setattr("cai.engine.weights.MAX_HEADER_BYTES", 10)
    write(path, {"a": entry()})
    with pytest.raises(PolicyError, match="10 is most"):
        read_header(path)


def test_a_length_beyond_the_file_is_refused(path):
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(PolicyError, match="torn"):
        read_header(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": 1, "a": 1}', "a name stands there twice"),
        (b"[]", "no JSON object"),
        ({"a": 1}, "'a' needs dtype, shape and data_offsets"),
        ({"a": {**entry(), "more": 1}}, "and nothing else"),
        ({"a": entry(dtype="F31")}, "unknown dtype 'F31'"),
        ({"a": entry(dtype=["F32"])}, "unknown dtype"),
        ({"a": entry(shape=(-2, -2))}, "no valid shape"),
        ({"a": entry(shape=(2, True, 2))}, "no valid shape"),
        ({"a": entry(shape=(2.0, 2))}, "no valid shape"),
        ({"a": entry(shape=(1,) * 17)}, "no valid shape"),
        ({"a": entry(shape=(2**60,))}, "no valid shape"),
        ({"a": entry(offsets=(0, 8, 16))}, "no valid data_offsets"),
        ({"a": entry(offsets=(-16, 0))}, "no valid data_offsets"),
        ({"a": entry(offsets=(16, 0))}, "takes 16 bytes, but is given -16"),
        ({"a": entry(offsets=(0, 12))}, "takes 16 bytes, but is given 12"),
        ({"a": entry(), "b": entry(offsets=(8, 24))}, "'b' overlaps the one before it"),
        ({"a": entry(), "b": entry()}, "overlaps"),
        ({"a": entry(), "b": entry(offsets=(20, 36))}, "4 bytes before the tensor 'b'"),
        ({"a": entry(offsets=(4, 20))}, "4 bytes before the tensor 'a'"),
        ({"a": entry("F32", (2,), (0, 8))}, "8 bytes after the last tensor"),
        ({"a": entry(offsets=(0, 2**48))}, "takes 16 bytes"),
    ],
)
def test_a_header_that_lies_is_refused_by_name(path, header, message):
    write(path, header)
    with pytest.raises(PolicyError, match=rf"model\.safetensors: .*{message}"):
        read_header(path)


class TestShards:
    @pytest.fixture
    def folder(self, tmp_path):
        write(tmp_path / "model-1.safetensors", {"a": entry()})
        write(tmp_path / "model-2.safetensors", {"b": entry()})
        return tmp_path

    def index(self, folder, weight_map):
        text = json.dumps({"weight_map": weight_map})
        (folder / "model.safetensors.index.json").write_text(text)

    def test_shards_are_read_as_one(self, folder):
        assert list(tensors_of(folder)) == ["a", "b"]
        self.index(folder, {"b": "model-2.safetensors", "a": "model-1.safetensors"})
        assert list(tensors_of(folder)) == ["a", "b"]

    def test_with_an_index_other_files_do_not_count(self, folder):
        """As loaders have it: some hub folders hold the same weights a second time."""
        write(folder / "consolidated.safetensors", {"a": entry()})
        with pytest.raises(PolicyError, match="holds 'a', which another file holds too"):
            tensors_of(folder)
        self.index(folder, {"b": "model-2.safetensors", "a": "model-1.safetensors"})
        assert list(tensors_of(folder)) == ["a", "b"]

    @pytest.mark.parametrize(
        ("weight_map", "message"),
        [
            ({"a": "model-1.safetensors", "b": "model-3.safetensors"}, "'model-3.safetensors'"),
            ({"a": "../x/model-1.safetensors"}, "which is not in the folder"),
            ({"a": "model-1.safetensors", "c": "model-2.safetensors"}, "lacks the tensor 'c'"),
            ({"a": "model-1.safetensors", "c": "model-1.safetensors"}, "lacks the tensor 'c'"),
            ({"a": 1}, "no 'weight_map'"),
            ({}, "no 'weight_map'"),
        ],
    )
    def test_an_index_that_does_not_match_is_refused(self, folder, weight_map, message):
        self.index(folder, weight_map)
        with pytest.raises(PolicyError, match=message):
            tensors_of(folder)

    def test_a_tensor_that_the_index_forgets_is_named(self, folder):
        write(folder / "model-1.safetensors", {"a": entry(), "z": entry(offsets=(16, 32))}, 32)
        self.index(folder, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
        with pytest.raises(PolicyError, match="holds 'z', which the index does not name"):
            tensors_of(folder)

    def test_a_torn_index_and_an_empty_folder_are_named(self, folder, tmp_path_factory):
        (folder / "model.safetensors.index.json").write_text("{")
        with pytest.raises(ConfigError, match=r"index\.json: not valid JSON"):
            tensors_of(folder)
        with pytest.raises(PolicyError, match=r"no \.safetensors file"):
            tensors_of(tmp_path_factory.mktemp("empty"))
