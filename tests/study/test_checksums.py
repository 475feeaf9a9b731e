"""Sums of bits: alike on any devices, other after any flip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fedjax_edu as fe
from fedjax_edu.study import checksums as module
from fedjax_edu.study.checkpoints import Checkpoints
from fedjax_edu.study.checksums import checksums
from tests.study.run.small import PARAMS, build

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "floats": RANDOM.normal(size=(8, 5, 3)).astype(np.float32),
    "halves": np.asarray(jnp.asarray(RANDOM.normal(size=(16, 2)), jnp.bfloat16)),
    "numbers": RANDOM.integers(-5, 5, size=24).astype(np.int32),
    "flags": RANDOM.random((8, 2)) < 0.5,
    "scalar": np.float32(3),
    "key": np.asarray(jax.random.key_data(jax.random.key(1))),
}


def test_devices_do_not_matter(monkeypatch):
    expected = checksums(ARRAYS)
    assert len(set(expected.values())) == len(ARRAYS)
    mesh = jax.make_mesh((4, 2), ("clients", "model"), axis_types=(AxisType.Auto,) * 2)
    specs = {"floats": ("clients",), "halves": ("clients", "model"), "numbers": (("clients", "model"),), "flags": (None, "model")}
    placed = {name: jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*specs.get(name, ())))) for name, leaf in ARRAYS.items()}
    assert checksums(placed) == expected
    monkeypatch.setattr(module, "_BLOCK", 7)
    assert checksums(ARRAYS) == checksums(placed) == expected


@pytest.mark.parametrize("name", ARRAYS)
def test_every_flip_of_a_bit_is_seen(name):
    leaf = np.atleast_1d(ARRAYS[name])
    before = checksums({name: leaf})
    for byte in range(leaf.nbytes):
        for bit in range(1 if leaf.dtype == bool else 8):
            flipped = np.frombuffer(leaf.tobytes(), np.uint8).copy()
            flipped[byte] ^= 1 << bit
            assert checksums({name: flipped.view(leaf.dtype).reshape(leaf.shape)}) != before


def test_numbers_in_other_places_are_others():
    leaf = ARRAYS["floats"]
    assert checksums({"w": leaf}) != checksums({"w": leaf[::-1]}) != checksums({"w": leaf[:, ::-1]})


def test_a_damaged_checkpoint_is_refused(tmp_path):
    """Files that are compressed may hold bits that say nothing: what is read is what was saved, or nothing is."""
    large = {"w": RANDOM.normal(size=(40, 500)).astype(np.float32)}
    state = build().init(PARAMS, seed=0)._replace(links_clients=large)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, {}, loss=0.5)
        checkpoints.wait()
        assert (checkpoints.restore(0, like=state).links_clients["w"] == large["w"]).all()
        (path,) = [path for path in (tmp_path / "0" / "state").rglob("*") if path.is_file() and path.stat().st_size > large["w"].nbytes / 2]
        content, refused = path.read_bytes(), []
        for place in RANDOM.integers(len(content), size=20):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            try:
                np.testing.assert_array_equal(checkpoints.restore(0, like=state).links_clients["w"], large["w"])
            except fe.errors.CheckpointError as error:
                refused.append(str(error))
        assert len(refused) > 10 and all("remove that folder to begin anew: it cannot be read" in message for message in refused)
