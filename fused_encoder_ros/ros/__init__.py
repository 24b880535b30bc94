"""The node and everything else that talks ROS 2: the only folder that imports rclpy."""
