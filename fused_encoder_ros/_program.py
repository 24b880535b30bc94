"""Imported by the programs before NumPy: what they set for the whole process."""

import atexit
import gc
import os

# NumPy's matrix products are small here, and the threads of OpenBLAS wait actively for more of them, on cores that the encoder
# needs. The environment may say otherwise.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')

# A process that ends would look for garbage among all that torch has made, for a third of a second.
atexit.register(gc.freeze)
