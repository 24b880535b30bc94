"""Many bags: find them, have them done by workers, remember what became of each. What is done with one bag is in `offline`."""
