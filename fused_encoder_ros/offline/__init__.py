"""Recorded bags to features, with no ROS installed."""
