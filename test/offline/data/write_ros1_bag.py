#!/usr/bin/python3
"""Writes wrist_cameras_ros1.bag with ROS 1's own rosbag, as Debian and Ubuntu package it.

apt install python3-rosbag python3-sensor-msgs python3-std-msgs python3-numpy
/usr/bin/python3 write_ros1_bag.py
"""

import random
import sys

import genpy
import numpy as np
import rosbag
from sensor_msgs.msg import Image, JointState

OUT = sys.argv[1] if len(sys.argv) > 1 else 'wrist_cameras_ros1.bag'
T0 = 1700000000
W, H = 48, 36
DUR = 1.5
NAMES = [f'{side}_{joint}' for side in ('left', 'right') for joint in (*(f'joint_{i}' for i in range(1, 8)), 'gripper')]
SHUFFLED = NAMES[:]
random.Random(7).shuffle(SHUFFLED)
CAMERAS = [  # topic, frame, phase offset (ms), colour of the picture
    ('/left_wrist/image', 'left_wrist_camera', 3, 0),
    ('/right_wrist/image', 'right_wrist_camera', 17, 1),
    ('/global/image', 'global_camera', 41, 2),
]


def stamp(ms):
    return genpy.Time(T0 + ms // 1000, (ms % 1000) * 1000000)


def picture(kind, t):
    """A smooth gradient with a soft blob that moves with t (uint8 RGB)."""
    y, x = np.mgrid[0:H, 0:W].astype(float)
    cx, cy = W * (0.3 + 0.25 * t), H * (0.4 + 0.1 * np.sin(4 * t + kind))
    blob = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 60.0)
    im = np.stack([40 + 3 * x // 8 * 4, 60 + 3 * y // 8 * 4, np.full((H, W), 90.0)], -1)
    im[..., kind] += np.round(90 * blob / 6) * 6
    return np.clip(im, 0, 255).astype(np.uint8)


events = []
for topic, frame, phase, kind in CAMERAS:
    for seq in range(15):
        ms = phase + 100 * seq
        m = Image()
        m.header.seq, m.header.stamp, m.header.frame_id = seq, stamp(ms), frame
        m.height, m.width, m.encoding, m.is_bigendian, m.step = H, W, 'rgb8', 0, 3 * W
        m.data = picture(kind, ms / 1e3).tobytes()
        events.append((ms + 2, topic, m))  # received 2 ms after the stamp
for seq in range(int(DUR * 50)):
    ms = 20 * seq
    m = JointState()
    m.header.seq, m.header.stamp = seq, stamp(ms)
    m.name = SHUFFLED
    pos = {}
    for i, n in enumerate(NAMES):
        if n.endswith('gripper'):
            pos[n] = 0.04 * (0.5 + 0.5 * np.sin(ms / 400.0 + (i > 8)))
        else:
            pos[n] = 0.1 * (i % 8 + 1) * (1 if i < 8 else -1) + 0.2 * np.sin(ms / 500.0 + i)
    m.position = [float(pos[n]) for n in SHUFFLED]
    m.velocity = [0.0] * 16
    m.effort = []
    events.append((ms + 1, '/joint_states', m))

with rosbag.Bag(OUT, 'w', compression='bz2') as bag:
    for ms, topic, m in sorted(events, key=lambda e: (e[0], e[1])):
        bag.write(topic, m, stamp(ms))
