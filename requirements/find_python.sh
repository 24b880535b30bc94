#!/bin/sh
# Print a Python that the ROS 2 wheels exist for, or say what to install. One named by PYTHON is taken or refused.
for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.10}; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
        echo "$candidate"
        exit 0
    fi
done
echo "${PYTHON:-None on PATH}: no CPython 3.10, 3.11 or 3.12 with venv, and rclpy has wheels for these only." >&2
echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12" >&2
exit 1
