"""Folders of weights as they are published: dtypes, shards, links, prefixes; what is refused, and what is said."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch

from npllm.cli.main import main
from npllm.models.presets import from_pretrained
from npllm.weights.model_folder import INDEX, check_dtype
from tests.weights.published import GPT2, LLAMA, compare, open_reference, rewrite_config, rewrite_tensors, write_folder

PROJECTION = "model.layers.0.self_attn.q_proj."


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("config", [LLAMA, GPT2])
def test_weights_of_other_dtypes_become_float32(tmp_path, config, dtype):
    compare(write_folder(tmp_path, config, dtype))


@pytest.mark.parametrize("config", [LLAMA, GPT2])
def test_shards(tmp_path, config):
    compare(write_folder(tmp_path, config, shard_size="20KB"))
    assert len(list(tmp_path.glob("*.safetensors"))) > 3


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "float16", np.float16, torch.float32, int, None, "q4_0"])
@pytest.mark.parametrize("config", [LLAMA, GPT2])
def test_a_dtype_that_a_model_cannot_compute_in_is_refused(tmp_path, config, dtype):
    write_folder(tmp_path, config)
    with pytest.raises(ValueError, match='dtype is .*; it must be "float32" or "float64"'):
        from_pretrained(tmp_path, dtype)


@pytest.mark.parametrize("dtype", ["float32", np.float64, np.dtype("float64")])
def test_dtypes_that_are_taken(tmp_path, dtype):
    model = from_pretrained(write_folder(tmp_path, LLAMA), dtype)
    assert model(np.arange(3)).dtype == np.dtype(dtype)
    assert check_dtype(dtype) == np.dtype(dtype).name


def hub_cache(folder, shard_size="50GB", config=LLAMA):
    """A folder of the hub's cache: links in snapshots/REVISION to files in blobs."""
    snapshot, blobs = folder / "models--a--b" / "snapshots" / "f00d", folder / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    write_folder(snapshot, config, shard_size=shard_size)
    for number, file in enumerate(sorted(snapshot.iterdir())):
        file.rename(blobs / f"{number:040x}")
        file.symlink_to(f"../../blobs/{number:040x}")
    return snapshot


@pytest.mark.parametrize("shard_size", ["50GB", "20KB"])
def test_the_cache_of_the_hub_consists_of_links(tmp_path, shard_size):
    compare(hub_cache(tmp_path, shard_size))


def sharded(folder):
    """A folder with shards and the content of its index."""
    write_folder(folder, LLAMA, shard_size="20KB")
    return json.loads((folder / INDEX).read_text())


@pytest.mark.parametrize(
    "name",
    ["../other/model.safetensors", "/etc/passwd", "..", "", ".", "a/b.safetensors", "a\\b.safetensors", 3, None, ["x"],
     "model.bin", "/proc/self/mem.safetensors", "x\0.safetensors"],
)  # fmt: skip
def test_the_index_names_files_in_the_folder_only(tmp_path, name):
    index = sharded(tmp_path)
    index["weight_map"]["lm_head.weight"] = name
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index.json has weight_map.\"lm_head.weight\" .*; it must be the name"):
        from_pretrained(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    index = sharded(tmp_path / "model")
    name = index["weight_map"]["lm_head.weight"]
    (tmp_path / "model" / name).rename(tmp_path / "elsewhere.safetensors")
    (tmp_path / "model" / name).symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(ValueError, match="is a link to .*elsewhere.safetensors; it must be a file in the folder"):
        from_pretrained(tmp_path / "model")


def test_the_index_and_the_files_must_agree(tmp_path):
    index = sharded(tmp_path)
    files = sorted(set(index["weight_map"].values()))
    moved = index | {"weight_map": index["weight_map"] | {"lm_head.weight": files[0]}}
    if index["weight_map"]["lm_head.weight"] == files[0]:
        moved["weight_map"]["lm_head.weight"] = files[1]
    (tmp_path / INDEX).write_text(json.dumps(moved))
    with pytest.raises(ValueError, match=r"says that lm_head.weight is in .*; it is not there"):
        from_pretrained(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps(index))
    (tmp_path / files[0]).unlink()
    with pytest.raises(FileNotFoundError, match=f"there is no file .*{files[0]}"):
        from_pretrained(tmp_path)


def test_a_tensor_in_two_shards_is_taken_from_the_one_that_the_index_names(tmp_path):
    index = sharded(tmp_path)
    expected = from_pretrained(tmp_path)(np.arange(5))
    own = index["weight_map"]["lm_head.weight"]
    for other in sorted(set(index["weight_map"].values()) - {own}):
        tensors = safetensors.torch.load_file(tmp_path / other)
        safetensors.torch.save_file(tensors | {"lm_head.weight": torch.zeros(61, 32)}, tmp_path / other)
    np.testing.assert_array_equal(from_pretrained(tmp_path)(np.arange(5)), expected)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"weight_map": null}', b'{"weight_map": {}}', b'{"weight_map": []}', b"\xff",
     b'{"weight_map": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"weight_map": {"a": "b"}, "weight_map": {}}'],
)  # fmt: skip
def test_a_damaged_index_is_refused(tmp_path, content):
    sharded(tmp_path)
    (tmp_path / INDEX).write_bytes(content)
    with pytest.raises(ValueError, match="model.safetensors.index.json"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{", b"\xff\xfe", '{"vocab_size": 1}'.encode("utf-16"), b'{"a": 1, "a": 1}',
     b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"a": ' * 100_000 + b"1" + b"}" * 100_000,
     b'{"a": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_a_damaged_config_is_refused(tmp_path, content):
    write_folder(tmp_path, LLAMA)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match="config.json is damaged"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config", "rename"),
    [
        (LLAMA, lambda name: f"_orig_mod.{name}"),
        (LLAMA, lambda name: f"module._orig_mod.{name}"),
        (LLAMA, lambda name: name.replace("layers.1.", "layers.1._orig_mod.")),
        (LLAMA, lambda name: name.removeprefix("model.")),
        (LLAMA, lambda name: f"model.{name}"),
        (GPT2, lambda name: f"_orig_mod.{name}"),
        (GPT2, lambda name: f"module.{name}"),
        (GPT2, lambda name: name.removeprefix("transformer.")),
    ],
)
def test_prefixes_that_wrappers_put_before_names(tmp_path, config, rename):
    expected = from_pretrained(write_folder(tmp_path, config))(np.arange(9))
    rewrite_tensors(tmp_path, lambda tensors: {rename(name): tensor for name, tensor in tensors.items()})
    np.testing.assert_array_equal(from_pretrained(tmp_path)(np.arange(9)), expected)


def test_two_tensors_of_one_name_are_refused(tmp_path):
    write_folder(tmp_path, LLAMA)
    rewrite_tensors(tmp_path, lambda tensors: tensors | {"norm.weight": torch.ones(32)})
    with pytest.raises(ValueError, match="has two tensors for norm.weight, one of them"):
        from_pretrained(tmp_path)


def test_constants_of_older_files_are_ignored(tmp_path):
    write_folder(tmp_path / "llama", LLAMA)
    frequencies = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(4) for layer in range(3)}
    compare(rewrite_tensors(tmp_path / "llama", lambda tensors: tensors | frequencies))
    write_folder(tmp_path / "gpt2", GPT2)
    masks = {"transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    expected = open_reference(tmp_path / "gpt2")(torch.arange(9)[None]).logits[0].detach()
    rewrite_tensors(tmp_path / "gpt2", lambda tensors: tensors | masks)
    np.testing.assert_allclose(from_pretrained(tmp_path / "gpt2")(np.arange(9)), expected, rtol=1e-3, atol=1e-3)


def as_gptq(tensors):
    """One projection as GPTQ stores it."""
    packed = {f"{PROJECTION}qweight": torch.zeros(4, 32, dtype=torch.int32), f"{PROJECTION}scales": torch.zeros(1, 32)}
    return {name: tensor for name, tensor in tensors.items() if name != f"{PROJECTION}weight"} | packed


def as_dtype(dtype):
    """All projections in another dtype."""
    return lambda tensors: {name: t.to(dtype) if "proj" in name else t for name, t in tensors.items()}


def as_bitsandbytes(tensors):
    """One projection as bitsandbytes stores it in 8 bits."""
    weight = tensors[f"{PROJECTION}weight"].to(torch.int8)
    return tensors | {f"{PROJECTION}weight": weight, f"{PROJECTION}SCB": torch.ones(32)}


QUANTISED = {
    "gptq": as_gptq,
    "bitsandbytes": as_bitsandbytes,
    "int8": as_dtype(torch.int8),
    "uint8": as_dtype(torch.uint8),
    "fp8": as_dtype(torch.float8_e4m3fn),
    "float8": as_dtype(torch.float8_e5m2),
}


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize("is_declared", [True, False])
def test_quantised_weights_are_refused_by_name(tmp_path, kind, is_declared, capsys):
    write_folder(tmp_path, LLAMA)
    rewrite_tensors(tmp_path, QUANTISED[kind])
    if is_declared:
        rewrite_config(tmp_path, quantization_config={"quant_method": kind})
    with pytest.raises(ValueError, match="quantised|float8") as error:
        from_pretrained(tmp_path)
    assert "use the model's weights in bfloat16, float16 or float32" in str(error.value)
    assert "damaged" not in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert not is_declared or f'quant_method "{kind}"' in str(error.value)


@pytest.mark.parametrize("value", ["gptq", 3, [1], {"bits": 4}, {"quant_method": None}])
def test_any_quantization_config_is_refused(tmp_path, value):
    rewrite_config(write_folder(tmp_path, GPT2), quantization_config=value)
    with pytest.raises(ValueError, match="config.json has quantization_config with quant_method .*: the model"):
        from_pretrained(tmp_path)


def test_a_quantization_config_that_is_null_is_none(tmp_path):
    compare(rewrite_config(write_folder(tmp_path, LLAMA), quantization_config=None))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("pytorch_model.bin", "pytorch_model.bin is a pickle, which can execute code"),
        ("pytorch_model-00001-of-00002.bin", "is a pickle"),
        ("consolidated.00.pth", "is a pickle"),
        ("model.pt", "is a pickle"),
        ("model-Q4_K_M.gguf", "is a GGUF file; pass the path of the file"),
        ("tf_model.h5", "is weights of TensorFlow; npllm reads safetensors"),
        ("flax_model.msgpack", "is weights of Flax"),
    ],
)
def test_weights_in_other_formats_are_refused_by_name(tmp_path, file, message):
    (write_folder(tmp_path, LLAMA) / "model.safetensors").rename(tmp_path / file)
    with pytest.raises(ValueError, match=f"{message}.*; there is no model.safetensors beside it"):
        from_pretrained(tmp_path)


def test_a_folder_without_weights(tmp_path):
    write_folder(tmp_path, LLAMA)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no model.safetensors in .*; pass the path of other.safetens"):
        from_pretrained(tmp_path)
    compare_path = from_pretrained(tmp_path / "other.safetensors")
    assert compare_path.config.num_layers == 3
    (tmp_path / "other.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no model.safetensors.index.json in"):
        from_pretrained(tmp_path)


def test_adapters_are_refused_by_name(tmp_path):
    write_folder(tmp_path, LLAMA)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ValueError, match="adapter_config.json says that this folder is an adapter, such as LoRA"):
        from_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    rewrite_tensors(tmp_path, lambda tensors: tensors | {f"{PROJECTION}lora_A.weight": torch.zeros(2, 32)})
    with pytest.raises(ValueError, match="it is an adapter .LoRA.; merge it into its base model"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (LLAMA, lambda t: {n: x for n, x in t.items() if "norm" not in n}, ".*layernorm.weight.* are missing"),
        (LLAMA, lambda t: t | {"model.extra": torch.ones(2)}, "the tensors extra are unexpected"),
        (LLAMA, lambda t: t | {"model.norm.weight": torch.ones(3)}, r"norm.weight has shape \(3,\), which must"),
        (LLAMA, lambda t: t | {"model.norm.weight": torch.ones(32, 1)}, r"norm.weight has shape \(32, 1\)"),
        (LLAMA, lambda t: t | {"model.layers.9.x": torch.ones(3)}, "the weights of 4 layers; .* it must have 3"),
        (LLAMA, lambda t: t | {"model.norm.weight": torch.ones(32, dtype=torch.int32)}, "norm.weight with dtype int32"),
        (LLAMA, lambda t: {}, "the weights of 0 layers"),
        (GPT2, lambda t: t | {"transformer.ln_f.bias": torch.ones(3)}, r"ln_f.bias has shape \(3,\)"),
        (GPT2, lambda t: t | {"transformer.extra": torch.ones(2)}, "the tensors extra are unexpected"),
        (GPT2, lambda t: t | {"transformer.wpe.weight": torch.ones(9, 32)}, r"wpe.weight with shape \(9, 32\)"),
        (GPT2, lambda t: t | {"transformer.wte.weight": torch.ones(61)}, r"wte.weight with shape \(61,\)"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_named(tmp_path, config, change, message, capsys):
    rewrite_tensors(write_folder(tmp_path, config), change)
    with pytest.raises(ValueError, match=f"{tmp_path}.*{message}"):
        from_pretrained(tmp_path)
    (tmp_path / "vocabulary.json").write_text("{}")
    assert main(["generate", "--model", str(tmp_path), "--prompt", "x"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_folder_that_is_a_link_is_opened(tmp_path):
    write_folder(tmp_path / "model", LLAMA, shard_size="20KB")
    (tmp_path / "link").symlink_to(tmp_path / "model")
    compare(tmp_path / "link")
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(FileNotFoundError):
        from_pretrained(tmp_path / "link")
