"""What the data show, held against the training data and against the robot's motion."""
