"""What is refused of an ONNX graph lies in the graphs inside of nodes and in functions as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gate.errors import ModelError
from gate.features import LayerAddress
from gate.models.opening import How, opened
from tests.models.loaded import extractor

ROWS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
MICROSOFT = "com.microsoft"


def saved(folder: Path, node: Any, *, tensors: Any = (), functions: Any = (), domains: Any = ()) -> Path:
    """A graph in which a node stands in one of two branches."""
    import onnx
    from onnx import helper

    value = helper.make_tensor_value_info
    end = [value("o", 1, None)]
    inner = helper.make_graph([node], "inner", [], end, tensors)
    other = helper.make_graph([helper.make_node("Relu", ["x"], ["o"])], "other", [], end)
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=other)
    chosen = onnx.numpy_helper.from_array(np.array(True), "c")
    graph = helper.make_graph([branch], "g", [value("x", 1, ["n", 4])], [value("y", 1, ["n", 4])], [chosen])
    imports = [helper.make_opsetid("", 17), *(helper.make_opsetid(each, 1) for each in domains)]
    (folder / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}")
    made = helper.make_model(graph, opset_imports=imports, ir_version=9, functions=functions)
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return folder


def function(node: Any, *domains: str, domain: str = "own") -> Any:
    from onnx import helper

    imports = [helper.make_opsetid("", 17), *(helper.make_opsetid(each, 1) for each in domains)]
    return helper.make_function(domain, "Mine", ["a"], ["b"], [node], imports)


def test_a_branch_and_a_function_of_standard_operators_run(tmp_path: Path) -> None:
    from onnx import helper

    mine = function(helper.make_node("Relu", ["a"], ["b"]))
    folder = saved(tmp_path, helper.make_node("Mine", ["x"], ["o"], domain="own"), functions=[mine], domains=["own"])
    with extractor(opened(folder, How()), out=LayerAddress("output")) as extract:
        assert np.array_equal(extract(ROWS)["out"].numpy(), ROWS.clip(0))


@pytest.mark.parametrize("domain", ["own", MICROSOFT])
def test_operators_of_other_domains_are_refused_wherever_they_stand(tmp_path: Path, domain: str) -> None:
    from onnx import helper

    with pytest.raises(ModelError, match=f"uses operators of {MICROSOFT}, expected the standard ones"):
        opened(saved(tmp_path, helper.make_node("Gelu", ["x"], ["o"], domain=MICROSOFT), domains=[MICROSOFT]), How())
    mine = function(helper.make_node("Gelu", ["a"], ["b"], domain=MICROSOFT), MICROSOFT, domain=domain)
    node = helper.make_node("Mine", ["x"], ["o"], domain=domain)
    with pytest.raises(ModelError, match=f"uses operators of {MICROSOFT}"):
        opened(saved(tmp_path, node, functions=[mine], domains={domain, MICROSOFT}), How())


@pytest.mark.parametrize("constant", [False, True])
def test_tensors_outside_of_the_model_are_refused_wherever_they_are_named(tmp_path: Path, constant: bool) -> None:
    import onnx
    from onnx import helper

    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../w.bin")
    node = (
        helper.make_node("Constant", [], ["o"], value=tensor)
        if constant
        else helper.make_node("Add", ["x", "w"], ["o"])
    )
    with pytest.raises(ModelError, match=r"tensor 'w' lies at '\.\./w\.bin', outside of the model folder"):
        opened(saved(tmp_path, node, tensors=[] if constant else [tensor]), How())
