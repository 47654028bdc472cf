"""Example 1: two time points, two channels, two illuminations, two angles, with labels.

python ex1_basic.py FOLDER
"""

import sys
from itertools import product

import numpy as np

import npy2bdv

folder = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
rng = np.random.default_rng(1)

bdv_writer = npy2bdv.BdvWriter(folder + "/ex1_basic.h5", nchannels=2, nilluminations=2, nangles=2)
bdv_writer.set_attribute_labels("channel", ("488", "561"))
bdv_writer.set_attribute_labels("illumination", ("L", "R"))
bdv_writer.set_attribute_labels("angle", ("90", "180"))
for time, channel, illumination, angle in product(range(2), repeat=4):
    stack = rng.integers(0, 65536, (7, 60, 90), dtype="uint16")
    bdv_writer.append_view(stack, time=time, channel=channel, illumination=illumination, angle=angle)
bdv_writer.write_xml()
bdv_writer.close()
