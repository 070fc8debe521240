#!/usr/bin/env python3
"""Makes the arrays and token files of this folder with NumPy.

    python make.py

* TYPE.npy: numbers of that type, [3, 2]; v2.npy and v3.npy have the longer headers.
* fortran.npy, big_endian.npy, bool.npy, half.npy, structure.npy: kinds that are refused.
* scalar.npy: no axes; empty.npy: no rows.
* TYPE.idx: the same numbers in the format of MNIST, big-endian.
* tokens_u16.bin, tokens_u32.bin and tokens_u2.npy, tokens_i8.npy: the same 50 tokens.
* windows.npy: [rows, 2, 8], their windows of 8 one after the other, inputs and targets.
"""

import pathlib
import struct

import numpy as np
from numpy.lib import format as npy

FOLDER = pathlib.Path(__file__).parent

for name in ["f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4"]:
    numbers = np.array([[0, 1], [2, 3], [100, 127]])
    if name[0] == "f":
        numbers = numbers + 0.1
    elif name[0] == "i":
        numbers = numbers - 28
    np.save(FOLDER / f"{name}.npy", numbers.astype("<" + name))
    codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    if name in codes:
        header = struct.pack(">BBBBII", 0, 0, codes[name], 2, *numbers.shape)
        (FOLDER / f"{name}.idx").write_bytes(header + numbers.astype(">" + name).tobytes())

three = np.arange(24, dtype="<f4").reshape(2, 3, 4)
for version in [2, 3]:
    with open(FOLDER / f"v{version}.npy", "wb") as file:
        npy.write_array(file, three, version=(version, 0))
np.save(FOLDER / "fortran.npy", np.asfortranarray(three[0]))
np.save(FOLDER / "big_endian.npy", np.arange(3, dtype=">i4"))
np.save(FOLDER / "bool.npy", np.array([True, False]))
np.save(FOLDER / "half.npy", np.arange(3, dtype="<f2"))
np.save(FOLDER / "structure.npy", np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")]))
np.save(FOLDER / "scalar.npy", np.float32(1.5))
np.save(FOLDER / "empty.npy", np.zeros((0, 3), dtype="<f4"))

tokens = np.array([(i * i + 7) % 300 for i in range(50)])
tokens.astype("<u2").tofile(FOLDER / "tokens_u16.bin")
tokens.astype("<u4").tofile(FOLDER / "tokens_u32.bin")
np.save(FOLDER / "tokens_u2.npy", tokens.astype("<u2"))
np.save(FOLDER / "tokens_i8.npy", tokens.astype("<i8"))

inputs = np.zeros((7, 8), dtype="<i4")
targets = np.full((7, 8), -100, dtype="<i4")
for row in range(7):
    some = tokens[8 * row : 8 * row + 8]
    inputs[row, : len(some)] = some
    some = tokens[8 * row + 1 : 8 * row + 9]
    targets[row, : len(some)] = some
np.save(FOLDER / "windows.npy", np.stack([inputs, targets], axis=1))
