#!/usr/bin/env python3
"""Makes the IDX files of this folder from scikit-learn's digits.

    pip install scikit-learn==1.9.1
    python make.py

The first 1437 images are for training, the last 360 held out. Their values are 0 to 16; they are
stored times 15, so that 240 of 255 is the darkest.
"""

import pathlib
import struct

import numpy as np
from sklearn.datasets import load_digits

FOLDER = pathlib.Path(__file__).parent
TRAINING = 1437


def save(name, array):
    """As MNIST has it: 0, 0, the type (8 is u8), how many axes; their sizes; the numbers."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    (FOLDER / name).write_bytes(header + array.astype(np.uint8).tobytes())


digits = load_digits()
images, labels = digits.images * 15, digits.target
for part, rows in [("train", slice(TRAINING)), ("test", slice(TRAINING, None))]:
    save(f"{part}-images-idx3-ubyte", images[rows])
    save(f"{part}-labels-idx1-ubyte", labels[rows])
