"""The fused operators under torch_npu's own schemas: on the device, as shapes only, compiled."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.npu.reference import close, softmax_attention
from tests.npu.simulator.checks import AclnnError
from tests.npu.simulator.operators import OPERATORS
from tests.npu.simulator.schemas import schemas

OPS = torch.ops.npu


def drawn(*shape, dtype=torch.float16):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype)


def infer(q, k, v):
    return OPS.npu_fused_infer_attention_score(
        q, k, v, num_heads=4, input_layout="BNSD", scale=0.125
    )[0]


def test_the_texts_are_the_wheels_schemas():
    real = {}
    for schema in torch._C._jit_get_all_schemas():
        name = schema.name + (f".{schema.overload_name}" if schema.overload_name else "")
        real[name] = str(schema)
    assert {name: real.get(name) for name in schemas()} == schemas()
    assert set(OPERATORS) <= set(real)


def test_attention_lies_on_the_device(npu):
    q, k, v = drawn(2, 4, 7, 64), drawn(2, 4, 9, 64), drawn(2, 4, 9, 64)
    out = OPS.npu_fusion_attention(q.to("npu"), k.to("npu"), v.to("npu"), 4, "BNSD", scale=0.125)[0]
    assert out.device == torch.device("npu:0")
    close(out, softmax_attention(q, k, v, 0.125))
    assert npu.log.ops() == ["npu_fusion_attention"] and npu.log.host_syncs["item"] == 0


def test_caches_are_written_in_place(npu):
    cache = torch.zeros(2, 128, 1, 16, dtype=torch.float16, device="npu")
    rows, slots = drawn(2, 1, 16), torch.tensor([3, 130], dtype=torch.int32)
    there = rows.to("npu")
    OPS.npu_scatter_pa_kv_cache(
        there, there, cache, cache.clone(), slots.to("npu"), cache_mode="Norm"
    )
    torch.ops.atb._npu_reshape_and_cache(there, there, cache, cache.clone(), slots.to("npu") + 1)
    assert not npu.log.host_syncs
    flat = cache.cpu().view(256, 16)
    assert torch.equal(flat[[3, 130, 4, 131]], rows[:, 0].repeat(2, 1))
    assert int((flat != 0).any(-1).sum()) == 4


def test_constraints_reach_the_caller():
    q = drawn(1, 4, 8, 64).to("npu")
    with pytest.raises(AclnnError, match="unsupported atten_mask shape"):
        mask = torch.zeros(1, 1, 1, 8, dtype=torch.bool, device="npu")
        OPS.npu_fusion_attention(q, q, q, 4, "BNSD", atten_mask=mask)
    with pytest.raises(RuntimeError, match="Unknown keyword"):
        OPS.npu_fusion_attention(q, q, q, 4, "BNSD", softmax_scale=0.1)


def test_lengths_on_the_device_make_the_host_wait(npu):
    x = drawn(8, 4, 64).to("npu")
    ends = torch.tensor([3, 8]).to("npu")
    npu.log.clear()
    OPS.npu_fusion_attention_v3(
        x, x, x, 4, "TND", actual_seq_qlen=ends, actual_seq_kvlen=ends, scale=0.1
    )
    assert npu.log.host_syncs["lengths on the device"] == 2


def calls(q):
    """Name -> a call for any device."""
    w = torch.ones(64, dtype=q.dtype, device=q.device)
    flat = q.flatten(0, 2)
    return {
        "fusion": lambda: OPS.npu_fusion_attention(q, q, q, 4, "BNSD")[:3],
        "fusion v2": lambda: OPS.npu_fusion_attention_v2(q, q, q, 4, "BNSD")[:3],
        "prompt": lambda: OPS.npu_prompt_flash_attention(
            q, q, q, num_heads=4, input_layout="BNSD", next_tokens=2147483647
        ),
        "infer": lambda: infer(q, q, q),
        "rms": lambda: OPS.npu_rms_norm(q, w),
        "add rms": lambda: OPS.npu_add_rms_norm(q, q, w),
        "rotary": lambda: OPS.npu_rotary_mul(q, q[:1, :1], q[:1, :1]),
        "swiglu": lambda: OPS.npu_swiglu(q),
        "geglu": lambda: OPS.npu_geglu(q),
        "quant": lambda: OPS.npu_dynamic_quant(flat),
    }


def shapes(results):
    results = (results,) if isinstance(results, torch.Tensor) else results
    return [(tuple(r.shape), r.dtype, r.device.type) for r in results]


def test_emulations_have_the_shapes_of_torch_npus_own_meta_kernels():
    real = calls(drawn(1, 4, 8, 64).to("npu"))
    with FakeTensorMode():
        fake = calls(torch.empty(1, 4, 8, 64, dtype=torch.float16, device="npu:0"))
        want = {name: shapes(call()) for name, call in fake.items()}
    assert {name: shapes(call()) for name, call in real.items()} == want


def test_compiled_in_one_graph():
    def block(q, w):
        return infer(OPS.npu_rms_norm(q, w)[0], q, q)

    q, w = drawn(1, 4, 8, 64).to("npu"), drawn(64).to("npu")
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(q, w).cpu(), block(q, w).cpu())


def test_opcheck():
    arguments = (drawn(2, 64).to("npu"), drawn(64).to("npu"))
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(OPS.npu_rms_norm.default, arguments, test_utils=tests)
