"""Example 3: a shear, and tiles on a grid, as affine transforms in the XML.

python ex3_affine.py FOLDER
"""

import sys

import numpy as np

import npy2bdv

folder = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
rng = np.random.default_rng(3)

# 3. A shear of 10 pixels in x for each plane: one angle of an oblique light sheet.
shear_x_px = 10
affine_matrix = np.array(
    (
        (1.0, 0.0, -shear_x_px, 0.0),
        (0.0, 1.0, 0.0, 0.0),
        (0.0, 0.0, 1.0, 0.0),
    )
)
stack = rng.integers(0, 65536, (9, 50, 70), dtype="uint16")
bdv_writer = npy2bdv.BdvWriter(folder + "/ex3_shear.h5", nchannels=2)
for channel in range(2):
    bdv_writer.append_view(
        stack,
        channel=channel,
        m_affine=affine_matrix,
        name_affine="shear transformation matrix",
        calibration=(1, 1, 1.5),
    )
bdv_writer.write_xml()
bdv_writer.close()

# 3.1 Eight tiles on a grid of 4 x 2, which overlap by 10 pixels; one was not recorded.
n_tiles_x, n_tiles_y = 4, 2
missing = [5]
unit_matrix = np.array(
    (
        (1.0, 0.0, 0.0, 0.0),
        (0.0, 1.0, 0.0, 0.0),
        (0.0, 0.0, 1.0, 0.0),
    )
)
bdv_writer = npy2bdv.BdvWriter(folder + "/ex3_tiles.h5", ntiles=n_tiles_x * n_tiles_y)
for tile in range(n_tiles_x * n_tiles_y):
    if tile in missing:
        continue
    stack = rng.integers(0, 65536, (5, 50, 70), dtype="uint16")
    unit_matrix[0, 3] = (70 - 10) * (tile % n_tiles_x)
    unit_matrix[1, 3] = (50 - 10) * (tile // n_tiles_x)
    bdv_writer.append_view(stack, tile=tile, m_affine=unit_matrix, name_affine=f"tile {tile} translation")
bdv_writer.write_xml()
bdv_writer.close()
