"""Files that observations, actions and features are written to."""
