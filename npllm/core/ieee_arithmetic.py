"""Floating-point arithmetic without NumPy's warnings: an overflow gives inf, an invalid operation gives nan.

PyTorch computes in the same way. Every forward and backward in which a number may overflow has the decorator, so it
gives the same result whatever `np.seterr` and the filters of `warnings` are.

IEEE 754-2019, sections 6 and 7.
"""

import numpy as np

ieee_arithmetic = np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore")
