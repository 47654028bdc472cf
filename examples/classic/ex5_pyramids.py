"""Example 5: resolution levels and compression, made while writing or afterwards.

python ex5_pyramids.py FOLDER
"""

import sys

import numpy as np

import npy2bdv

folder = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
rng = np.random.default_rng(5)
stacks = [rng.integers(0, 65536, (10, 130, 150), dtype="uint16") for _ in range(2)]

# 5.1 On the fly. The first level need not be the full resolution.
for name, subsamp in (
    ("on_the_fly", ((1, 1, 1), (2, 4, 4), (4, 16, 16))),
    ("coarse_only", ((1, 2, 2), (2, 4, 4))),
):
    bdv_writer = npy2bdv.BdvWriter(
        f"{folder}/ex5_{name}.h5",
        nchannels=2,
        subsamp=subsamp,
        blockdim=((4, 32, 32),) * len(subsamp),
        compression="gzip",
    )
    for channel, stack in enumerate(stacks):
        bdv_writer.append_view(stack, channel=channel)
    bdv_writer.write_xml()
    bdv_writer.close()

# 5.2 Raw first, levels later, when the microscope has time.
bdv_writer = npy2bdv.BdvWriter(folder + "/ex5_later.h5", nchannels=2)
for channel, stack in enumerate(stacks):
    bdv_writer.append_view(stack, channel=channel)
bdv_writer.create_pyramids(
    subsamp=((2, 4, 4), (4, 16, 16)), blockdim=((4, 32, 32), (4, 8, 8)), compression="gzip"
)
bdv_writer.write_xml()
bdv_writer.close()
