"""Example 8: views that were not recorded, among virtual stacks.

python ex8_missing_virtual_views.py FOLDER
"""

import sys

import numpy as np

import npy2bdv

folder = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
rng = np.random.default_rng(8)
nz, ny, nx = 5, 40, 60

bdv_writer = npy2bdv.BdvWriter(
    folder + "/ex8_missing_virtual_views.h5", nchannels=2, nangles=2, blockdim=((1, 32, 32),)
)
for channel in range(2):
    for angle in range(2):
        if (channel, angle) != (1, 0):
            bdv_writer.append_view(stack=None, virtual_stack_dim=(nz, ny, nx), channel=channel, angle=angle)
            for z in range(nz):
                plane = rng.integers(0, 65536, (ny, nx), dtype="uint16")
                bdv_writer.append_plane(plane=plane, z=z, channel=channel, angle=angle)
bdv_writer.write_xml()
bdv_writer.close()
