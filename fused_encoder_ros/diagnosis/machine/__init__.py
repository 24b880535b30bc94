"""Whether this machine can encode: its libraries, the parameters with the checkpoint, and its way to DDS."""
