"""Writes small decoders of `transformers`, their logits and ten of their training steps.

    python make.py [CASE ...]      (transformers 5.24, PyTorch on the CPU)

Every case is a folder as `save_pretrained` writes it, or as older versions did, beside
`expected.safetensors`: `logits` [2, 8, V] of the first two rows of step 0, and `losses` [10] of
AdamW (lr 1e-2, betas 0.9 and 0.95, eps 1e-8, weight decay 0.1 on tensors of two dimensions,
gradients clipped to norm 1). `batch.safetensors` has ids and targets of all steps [10, 4, 8].
All is computed in f32 and without dropout, whatever the folder says of either.
"""

import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
STEPS, ROWS, LENGTH, VOCAB, POSITIONS = 10, 4, 8, 23, 16


def gpt2(**settings):
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=POSITIONS, n_embd=16, n_layer=2, n_head=4,
        initializer_range=0.2, bos_token_id=None, eos_token_id=None, **settings,
    )
    return GPT2LMHeadModel(config)


def llama(**settings):
    common = dict(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=POSITIONS, initializer_range=0.2,
        bos_token_id=None, eos_token_id=None,
    )
    return LlamaForCausalLM(LlamaConfig(**(common | settings)))


def rope(kind, **settings):
    return {"rope_type": kind, "rope_theta": 100.0, **settings}


# What turns slowly and fast within a few positions.
LLAMA3 = dict(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0)
YARN = dict(factor=4.0, beta_fast=2.0, beta_slow=0.25)
WIDE = dict(head_dim=8, num_key_value_heads=2)

CASES = {
    "gpt2": lambda: gpt2(),
    "gpt2_bare": lambda: gpt2(),
    "gpt2_untied": lambda: gpt2(
        tie_word_embeddings=False, n_inner=40, activation_function="relu", layer_norm_epsilon=1e-3
    ),
    "gpt2_sharded": lambda: gpt2(activation_function="gelu"),
    "gpt2_bf16": lambda: gpt2(activation_function="gelu_pytorch_tanh"),
    "gpt2_f16": lambda: gpt2(activation_function="silu", tie_word_embeddings=False),
    "gpt2_old": lambda: gpt2(n_inner=24),
    "llama": lambda: llama(),
    "llama_tied_grouped": lambda: llama(tie_word_embeddings=True, num_key_value_heads=2),
    "llama_old": lambda: llama(rope_parameters=rope("default"), **WIDE),
    "llama_biases": lambda: llama(attention_bias=True, mlp_bias=True, rms_norm_eps=1e-3),
    "llama_bf16": lambda: llama(),
    "llama_f16": lambda: llama(num_key_value_heads=1),
    "llama_linear": lambda: llama(rope_parameters=rope("linear", factor=2.5), **WIDE),
    "llama_dynamic": lambda: llama(rope_parameters=rope("dynamic", factor=2.0)),
    "llama_llama3": lambda: llama(
        rope_parameters=rope("llama3", original_max_position_embeddings=8, **LLAMA3), **WIDE
    ),
    "llama_yarn": lambda: llama(
        rope_parameters=rope("yarn", original_max_position_embeddings=8, **YARN), **WIDE
    ),
    "llama_yarn_old": lambda: llama(
        rope_parameters=rope(
            "yarn", original_max_position_embeddings=4, mscale=1.5, mscale_all_dim=0.5,
            truncate=False, **YARN
        ), **WIDE
    ),
}
HALVES = {"bf16": torch.bfloat16, "f16": torch.float16}


def write(name, model):
    """The folder, and the model that it holds."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    half = HALVES.get(name.rsplit("_", 1)[-1])
    if half:
        model = model.to(half)
    shards = {"max_shard_size": "12KB"} if name in ("gpt2_sharded", "llama_biases") else {}
    model.save_pretrained(folder, **shards)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if name == "gpt2_bare":
        file = folder / "model.safetensors"
        tensors = {key.removeprefix("transformer."): t for key, t in load_file(file).items()}
        mask = torch.ones(POSITIONS, POSITIONS, dtype=torch.uint8).tril()[None, None]
        for block in range(2):
            tensors[f"h.{block}.attn.bias"] = mask.clone()
            tensors[f"h.{block}.attn.masked_bias"] = torch.tensor(-1e4)
        save_file(tensors, file, {"format": "pt"})
    if name == "gpt2_sharded":
        # A head of its own, which is the table once more.
        index = folder / "model.safetensors.index.json"
        told = json.loads(index.read_text())
        shard = folder / told["weight_map"]["transformer.wte.weight"]
        tensors = load_file(shard)
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
        save_file(tensors, shard, {"format": "pt"})
        told["weight_map"]["lm_head.weight"] = shard.name
        index.write_text(json.dumps(told, indent=2) + "\n")
    if name.endswith("_old") or name in ("llama_linear", "llama_f16"):
        older(folder / "config.json")
    # Whatever it was saved as, it is computed in f32.
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def older(file):
    """The same settings as versions before 5 wrote them."""
    config = json.loads(file.read_text())
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.40.0"
    if config["model_type"] == "gpt2":
        config["n_ctx"] = config["n_positions"]
    parameters = config.pop("rope_parameters", None)
    if parameters:
        config["rope_theta"] = parameters.pop("rope_theta")
        kind = parameters.pop("rope_type")
        # The name of the kind was `type` first, `rope_type` later.
        named = "type" if kind == "linear" else "rope_type"
        config["rope_scaling"] = None if kind == "default" else {named: kind, **parameters}
        config["pretraining_tp"] = 1
        if config["head_dim"] == 4:
            del config["head_dim"]
    file.write_text(json.dumps(config, indent=2) + "\n")


def expected(model, ids, targets):
    with torch.no_grad():
        logits = model(input_ids=ids[0, :2]).logits
    parameters = dict(model.named_parameters()).values()
    stepper = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=1e-2, betas=(0.9, 0.95), eps=1e-8,
    )
    losses = []
    for step in range(STEPS):
        out = model(input_ids=ids[step]).logits
        loss = torch.nn.functional.cross_entropy(out.flatten(0, 1), targets[step].flatten())
        stepper.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        stepper.step()
        losses.append(loss.detach())
    return {"logits": logits.contiguous(), "losses": torch.stack(losses)}


def main():
    torch.manual_seed(0)
    ids, targets = torch.randint(VOCAB, (2, STEPS, ROWS, LENGTH))
    batch = {"ids": ids.int(), "targets": targets.int()}
    save_file({name: part.contiguous() for name, part in batch.items()}, HERE / "batch.safetensors")
    for number, (name, make) in enumerate(CASES.items()):
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        torch.manual_seed(100 + number)
        model = make()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() < 2:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        model = write(name, model)
        told = expected(model, ids, targets)
        save_file(told, HERE / name / "expected.safetensors")
        print(f"{name}: losses {told['losses'][0]:.4f} .. {told['losses'][-1]:.4f}")


if __name__ == "__main__":
    main()
