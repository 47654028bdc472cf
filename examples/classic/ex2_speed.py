"""Example 2: how fast is it? Give more and larger stacks to see more than the page cache.

python ex2_speed.py FOLDER [TIME_POINTS [PLANES]]
"""

import sys
import time

import numpy as np

import npy2bdv

folder = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
ntimes = int(sys.argv[2]) if len(sys.argv) > 2 else 3
nz = int(sys.argv[3]) if len(sys.argv) > 3 else 10
stack = np.random.default_rng(2).integers(0, 4096, (nz, 200, 300), dtype="uint16")

begun = time.perf_counter()
bdv_writer = npy2bdv.BdvWriter(folder + "/ex2_speed.h5", nchannels=2, overwrite=True)
for t in range(ntimes):
    for c in range(2):
        bdv_writer.append_view(stack, time=t, channel=c)
bdv_writer.write_xml()
bdv_writer.close()
seconds = time.perf_counter() - begun
print(f"{2 * ntimes * stack.nbytes / seconds / 1e6:.0f} MB/s")  # noqa: T201
