"""What a robot sends, in numbers: each stream by itself, the streams together, and what the pipeline makes of them."""
