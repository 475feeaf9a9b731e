"""The registry: what every leaf belongs to; and the sizes of models, by formula and without making them."""

import jax
import numpy as np
import pytest
from flax import nnx

import fedjax_edu as fe
from fedjax_edu.core.trees import named_leaves
from fedjax_edu.models import building, corrections, entries
from fedjax_edu.models.fusion.gated import GatedFusion
from fedjax_edu.models.multimodal import M3T
from fedjax_edu.models.transformer import TransformerConfig
from tests.models import small_bert

MODALITIES = {
    "tabular": building.Tabular((0,) * 20 + (4,) * 10),
    "sequence": building.Sequence(items=1000, steps=200),
    "text": building.Text(),
    "image": building.Image(224, 224, 3, patch=16),
    "audio": building.Audio(),
    "features": building.Features(inputs=384),
}
TASKS = {"passed": building.Binary(), "score": building.Regression(), "answers": building.NextResponse(items=1000)}
SMALL = building.Size(
    width=8, encoders=TransformerConfig(layers=1, heads=2, experts=3), fusion=TransformerConfig(layers=1, heads=2, experts=4, bias=1.0)
)


def small(**changes):
    modalities = {"tabular": building.Tabular((0, 3)), "image": building.Image(4, 4, 1, patch=2)}
    return fe.models.m3t(modalities, {"passed": building.Binary(), "score": building.Regression()}, SMALL, **changes)


def by_module(found):
    return {entry.module: entry for entry in found}


def test_every_leaf_has_one_entry():
    model = small()
    found = entries.registry(model)
    leaves = dict(named_leaves(fe.models.functional(model)[1]))
    assert [entry.path for entry in found] == list(leaves)
    assert all(entry.shape == leaves[entry.path].shape for entry in found)
    assert sum(entry.parameters for entry in found) == sum(leaf.size for leaf in leaves.values())


def test_leaves_belong_to_modules_modalities_and_tasks():
    found = by_module(entries.registry(small()))
    assert {name: (entry.kind, entry.modality, entry.task, entry.level) for name, entry in found.items()} == {
        "encoders.image": ("encoder", "image", "", "federation"),
        "encoders.image.experts": ("experts", "image", "", "federation"),
        "encoders.image.router": ("router", "image", "", "federation"),
        "encoders.tabular": ("encoder", "tabular", "", "federation"),
        "fusion": ("fusion", "", "", "federation"),
        "fusion.experts": ("experts", "", "", "federation"),
        "fusion.router": ("router", "", "", "federation"),
        "heads.passed": ("head", "", "passed", "institution"),
        "heads.score": ("head", "", "score", "institution"),
    }


def test_names_with_dots_stay_apart():
    modalities = {name: building.Tabular((0,)) for name in ("a.b", "a.c", "order")}
    found = by_module(entries.registry(fe.models.m3t(modalities, {"x.m": building.Binary(), "x.n": building.Binary()}, SMALL)))
    assert {entry.modality for entry in found.values()} == {"", *modalities}
    assert {entry.task for entry in found.values()} == {"", "x.m", "x.n"}
    assert {"encoders.a.b", "encoders.a.c", "heads.x.m", "heads.x.n"} <= set(found)
    routers = {
        entry.path for entry in entries.registry(fe.models.m3t(modalities, {"x.m": building.Binary()}, SMALL)) if entry.kind == "router"
    }
    assert not any("kinds" in path for path in routers) and routers


def test_gated_experts_belong_to_their_pair():
    fusion = GatedFusion(["image"], ["passed"], 8, layers=1, heads=2, hidden=4, rngs=nnx.Rngs(0))
    found = by_module(entries.registry(M3T(dict(small().encoders), fusion, dict(small().heads))))
    assert (found["fusion.task_experts.image.passed"].modality, found["fusion.task_experts.image.passed"].task) == ("image", "passed")
    assert (found["fusion.modality_experts.passed.shared"].modality, found["fusion.modality_experts.passed.shared"].task) == ("", "passed")
    assert (found["fusion.modalities.image"].modality, found["fusion.tasks.passed"].task) == ("image", "passed")


def test_additions_freeze_what_they_are_added_to():
    model = small()
    corrections.add_low_rank(model, lambda path: path.startswith("fusion") and path.endswith("query"), rank=2)
    corrections.add_adapters(model, lambda path: path == "encoders.image.project", hidden=2)
    corrections.add_prompts(model, lambda path: path == "fusion.transformer", tokens=2)
    found = by_module(entries.registry(model))
    assert {name for name, entry in found.items() if entry.trainable} == {
        "adapters.encoders.image",
        "heads.passed",
        "heads.score",
        "lora.fusion",
        "prompts.fusion",
    }
    assert {entry.level for entry in found.values() if not entry.shareable} == {"student", "instructor"}
    assert found["adapters.encoders.image"].modality == "image"


@pytest.mark.parametrize("rank", [0, 2])
def test_published_weights_of_sentences_stay_and_all_else_is_trained(tmp_path, rank):
    pytest.importorskip("tokenizers")
    modalities = {"text": building.Sentences(str(small_bert.write(tmp_path)), rank=rank), "tabular": building.Tabular((0, 3))}
    model = fe.models.m3t(modalities, {"passed": building.Binary()}, SMALL)
    found = by_module(entries.registry(model))
    assert [name for name, entry in found.items() if not entry.trainable] == ["encoders.text.language"]
    assert found["encoders.text.language"].parameters < sum(leaf.parameters for leaf in entries.registry(model) if leaf.modality == "text")
    modules = entries.modules_of(entries.registry(model))
    kinds = dict(zip(modules.names, modules.kinds, strict=True))
    assert kinds["encoders.text"] == kinds["fusion"] == "shared"
    assert kinds.get("lora.encoders.text.language") == ("shared" if rank else None)


def test_shapes_are_enough():
    shapes = nnx.eval_shape(small)
    assert entries.registry(shapes) == entries.registry(small())


def test_modules_of_a_registry_are_those_of_the_engine():
    model = small()
    corrections.add_adapters(model, lambda path: path == "encoders.image.project", hidden=2)
    modules = entries.modules_of(entries.registry(model))
    kinds = dict(zip(modules.names, modules.kinds, strict=True))
    assert kinds["adapters.encoders.image"] == "personal"
    assert kinds["heads.score"] == "shared"
    assert kinds["encoders.image.experts"] == "frozen"
    parts = modules.split(fe.models.functional(model)[1])
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(part)) for part in parts]
    found = entries.registry(model)
    expected = [sum(entry.parameters for entry in found if kinds[entry.module] == kind) for kind in ("shared", "personal", "frozen")]
    assert sizes == expected


def test_levels_and_freezing_can_be_chosen():
    found = entries.registry(small(), levels={"head": "instructor"}, frozen=lambda path: path.startswith("encoders.image"))
    assert {entry.module for entry in found if not entry.trainable} == {"encoders.image", "encoders.image.experts", "encoders.image.router"}
    assert {entry.kind for entry in found if not entry.shareable} == {"head"}


def test_a_description_has_a_line_for_each_module():
    lines = entries.describe(small()).splitlines()
    found = entries.registry(small())
    assert lines[0].split() == ["module", "kind", "modality", "task", "level", "parameters", "trained", "shared"]
    assert len(lines) == 2 + len({entry.module for entry in found})
    assert lines[-1].split() == ["all", f"{sum(entry.parameters for entry in found):,}"]


def dense(width, hidden):
    return 2 * width * hidden + hidden + width


def transformer(width, config):
    hidden = round(config.hidden * width)
    network = config.experts * (dense(width, hidden) + width) if config.experts else dense(width, hidden)
    return config.layers * (4 * (width**2 + width) + 4 * width + network)


def expected(size):
    """Parameters of the model of all modalities and three tasks, by what layers are made of."""
    width, layer = size.width, transformer(size.width, size.encoders)
    tabular = (20 + 10 * 4 + 30) * width
    sequence = (1000 + 1000 + 200 + 1) * width + layer
    text = (30_522 + 512 + 2 + 2) * width + layer  # a normalisation before its layers
    image = (16 * 16 * 3 + 1 + 14 * 14) * width + layer
    audio = (4 * 80 + 1) * width + layer
    features = (384 + 1) * width + layer
    fusion = (7 + 2) * width + transformer(width, size.fusion)  # a normalisation at the end
    return tabular + sequence + text + image + audio + features + fusion + 2 * (width + 1) + 1000 * (width + 1) + width**2 + width


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("tiny", 1e6, 4e6), ("small", 10e6, 25e6), ("base", 95e6, 125e6), ("large", 300e6, 400e6), ("xl", 0.9e9, 1.1e9)],
)
def test_sizes_are_those_of_the_formula(name, low, high):
    model = nnx.eval_shape(lambda: fe.models.m3t(MODALITIES, TASKS, name))
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert count == expected(building.SIZES[name])
    assert low <= count <= high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: entries.registry(small(), levels={"head": "school"}), "levels: got ['school']; use student, instructor"),
        (lambda: entries.modules_of(entries.registry(small()), lambda entry: "mine"), "kind_of: got mine; use shared, personal, frozen"),
        (
            lambda: entries.modules_of(entries.registry(small()), lambda entry: "frozen" if entry.path.endswith("bias") else "shared"),
            "kind_of: got encoders.image: ",
        ),
    ],
)
def test_choices_that_do_not_fit_are_named(call, message):
    with pytest.raises(fe.errors.ArgumentError) as error:
        call()
    assert str(error.value).startswith(message)
