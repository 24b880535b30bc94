"""Imported before NumPy by the programs: one thread for NumPy's matrix products, unless the environment says otherwise.

They are small here, and the threads of OpenBLAS wait actively for more of them, on cores that the encoder needs.
"""

import os

os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
