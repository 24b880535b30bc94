"""The commands of `fused-encoder`: each module adds its own to the parser."""
