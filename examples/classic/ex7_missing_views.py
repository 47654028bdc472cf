"""Example 7: views that were not recorded.

python ex7_missing_views.py FOLDER
"""

import sys

import numpy as np

import npy2bdv

folder = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
rng = np.random.default_rng(7)

bdv_writer = npy2bdv.BdvWriter(folder + "/ex7_missing_views.h5", nchannels=2, nangles=2)
for time in range(3):
    for channel in range(2):
        for angle in range(2):
            if (time, channel, angle) not in ((0, 0, 1), (1, 1, 0), (2, 1, 1)):
                stack = rng.integers(0, 65536, (5, 40, 60), dtype="uint16")
                bdv_writer.append_view(stack, time=time, channel=channel, angle=angle)
bdv_writer.write_xml()
bdv_writer.close()
