"""What Hugging Face's warpers keep, and with which probabilities: sampling.safetensors.

    python make_sampling.py

made with PyTorch 2 and transformers 5. A token that is not drawn has probability 0.
"""

import torch
from safetensors.torch import save_file
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

generator = torch.Generator().manual_seed(3)
tensors = {}
cases = [
    (1.0, 0, 1.0),
    (0.7, 0, 1.0),
    (1.0, 5, 1.0),
    (1.0, 0, 0.9),
    (1.0, 0, 0.05),
    (1.5, 20, 0.75),
    (0.5, 50, 0.5),
    (2.0, 1, 0.9),
    (0.25, 0, 0.99),
]
for number, (temperature, top_k, top_p) in enumerate(cases):
    for vocab in [7, 100]:
        logits = 3 * torch.randn(1, vocab, generator=generator)
        warped = logits.clone()
        if temperature != 1.0:
            warped = TemperatureLogitsWarper(temperature)(None, warped)
        if top_k > 0:
            warped = TopKLogitsWarper(top_k)(None, warped)
        if top_p < 1.0:
            warped = TopPLogitsWarper(top_p)(None, warped)
        name = f"{number}-{vocab}"
        tensors[f"{name}/settings"] = torch.tensor([temperature, top_k, top_p])
        tensors[f"{name}/logits"] = logits[0].contiguous()
        tensors[f"{name}/probabilities"] = torch.softmax(warped, -1)[0].contiguous()
save_file(tensors, "sampling.safetensors")
