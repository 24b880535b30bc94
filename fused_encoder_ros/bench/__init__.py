"""What the claims about speed and memory are measured with; `fused-encoder bench` runs it."""
