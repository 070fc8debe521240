#!/usr/bin/env python3
"""Makes a small tokenizer.json and what it makes of some texts, with Hugging Face's package.

    pip install tokenizers==0.23.3
    python make.py

* tokenizer.json: byte-level BPE with 400 tokens, one of them special, trained on text.txt.
* ids.json: texts and their tokens.
"""

import json
import pathlib

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

FOLDER = pathlib.Path(__file__).parent
LINES = [
    "The pipeline has four nodes, and every node has its own list of actions.",
    "A node that waits for a tensor does nothing else; a node that computes waits for nobody.",
    "What is sent is the receiver's from the moment of sending: it takes a slot of the lane.",
    "",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "    indented = [1, 22, 333]  # and a comment",
    "日本語のテキストと emoji 🦀🦀 too.",
]


def main():
    text = "".join(f"{line}\n{number}: {line}\n" for number in range(60) for line in LINES)
    (FOLDER / "text.txt").write_text(text[: 12 << 10], encoding="utf-8")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES * 10, trainer)
    # What cuts, fills up or adds is not to change what is trained on.
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(FOLDER / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = LINES + ["\n\n  a\n", "never seen: ÆØÅ€\t\u0000", "one<|endoftext|>two", text[:3000]]
    ids = [{"text": text, "ids": tokenizer.encode(text).ids} for text in texts]
    (FOLDER / "ids.json").write_text(json.dumps(ids, ensure_ascii=False))


main()
