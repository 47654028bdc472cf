"""Example 4: voxel size, exposure, camera, microscope, user.

python ex4_metadata.py FOLDER
"""

import sys

import numpy as np

import npy2bdv

folder = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
stack = np.random.default_rng(4).integers(0, 65536, (6, 40, 50), dtype="uint16")

bdv_writer = npy2bdv.BdvWriter(folder + "/ex4_metadata.h5", nchannels=2)
for channel in range(2):
    bdv_writer.append_view(
        stack,
        channel=channel,
        voxel_size_xyz=(0.4, 0.4, 2.5),
        voxel_units="um",
        calibration=(1, 1, 2.5 / 0.4),
        exposure_time=10 + channel,
        exposure_units="ms",
    )
bdv_writer.write_xml(
    camera_name="Flash4.0",
    microscope_name="SPIM-1",
    microscope_version="2.1",
    user_name="R. Hooke",
)
bdv_writer.close()
