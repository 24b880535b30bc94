"""Imported by the programs before NumPy and OpenCV: what they set for the whole process."""

import atexit
import gc
import os

# NumPy's matrix products and OpenCV's pictures are small here. Further threads gain little, and those that wait for more work
# do so actively, on cores that the encoder needs. The environment may say otherwise.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
os.environ.setdefault('OPENCV_FOR_THREADS_NUM', '1')

# A process that ends would look for garbage among all that torch has made, for a third of a second.
atexit.register(gc.freeze)
