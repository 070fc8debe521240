"""Whether `transformers` gives the golden logits with folders that Brigade has exported.

    python agree.py EXPORTED/CASE ...      (each named as its case here)
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
WITHIN = 1e-4

ids = load_file(HERE / "batch.safetensors")["ids"][0, :2].long()
for folder in map(pathlib.Path, sys.argv[1:]):
    model, told = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not told[what], f"{folder}: {what} {told[what]}"
    with torch.no_grad():
        logits = model.eval()(input_ids=ids).logits
    wanted = load_file(HERE / folder.name / "expected.safetensors")["logits"]
    apart = (logits - wanted).abs().max().item()
    print(f"{folder.name}: logits within {apart:.1e}, {model.config.model_type}, {model.num_parameters()} parameters")
    assert apart < WITHIN, folder
