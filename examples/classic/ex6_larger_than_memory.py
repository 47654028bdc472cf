"""Example 6: stacks larger than memory come plane by plane, or block by block.

python ex6_larger_than_memory.py FOLDER
"""

import sys

import numpy as np

import npy2bdv

folder = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
nz, ny, nx = 10, 100, 120
camera = np.random.default_rng(6).integers(0, 65536, (2, nz, ny, nx), dtype="uint16")  # in place of a camera

# 6.1 By plane.
bdv_writer = npy2bdv.BdvWriter(folder + "/ex6_planes.h5", nchannels=2, blockdim=((1, 64, 64),))
for channel in range(2):
    bdv_writer.append_view(stack=None, virtual_stack_dim=(nz, ny, nx), channel=channel)
    for z in range(nz):
        bdv_writer.append_plane(plane=camera[channel, z], z=z, channel=channel)
bdv_writer.write_xml()
bdv_writer.close()

# 6.2 By substack: halves in y, some planes at a time.
bdv_writer = npy2bdv.BdvWriter(folder + "/ex6_substacks.h5", nchannels=2, blockdim=((4, 32, 32),))
for channel in range(2):
    bdv_writer.append_view(stack=None, virtual_stack_dim=(nz, ny, nx), channel=channel)
    for z in range(0, nz, 4):
        substack = camera[channel, z : z + 4]
        for y in range(0, ny, ny // 2):
            bdv_writer.append_substack(
                substack=substack[:, y : y + ny // 2], z_start=z, y_start=y, x_start=0, channel=channel
            )
bdv_writer.write_xml()
bdv_writer.close()

# 6.a By plane, with levels in x and y.
bdv_writer = npy2bdv.BdvWriter(
    folder + "/ex6_planes_pyramid.h5",
    nchannels=2,
    subsamp=((1, 1, 1), (1, 4, 4), (1, 8, 8)),
    blockdim=((1, 64, 64), (1, 32, 32), (1, 8, 8)),
)
for channel in range(2):
    bdv_writer.append_view(
        stack=None,
        virtual_stack_dim=(nz, ny, nx),
        channel=channel,
        voxel_size_xyz=(1, 1, 5),
        calibration=(1, 1, 5),
    )
    for z in range(nz):
        bdv_writer.append_plane(plane=camera[channel, z], z=z, channel=channel)
bdv_writer.write_xml()
bdv_writer.close()
