"""Messages to sets. NumPy and OpenCV only: no ROS, no torch."""
