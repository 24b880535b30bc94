"""What is wrong with what a robot sends, from a bag or live, and with the machine that is to encode it."""
