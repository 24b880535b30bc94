from pathlib import Path

from setuptools import find_packages, setup

package_name = 'fused_encoder_ros'

# colcon builds out of the source folder, so patterns are resolved beside this file.
here = Path(__file__).parent


def installed(folder: str) -> tuple[str, list[str]]:
    return f'share/{package_name}/{folder}', sorted(
        f'{folder}/{path.name}' for path in (here / folder).iterdir() if path.suffix in ('.py', '.yaml', '.xml', '.json')
    )


setup(
    name=package_name,
    version='0.1.0',
    description='Encodes time-matched camera images and joint states into one feature each, live in ROS 2 and from bags',
    license='Apache-2.0',
    packages=find_packages(include=[package_name, f'{package_name}.*']),
    package_data={package_name: ['py.typed', 'offline/report/style.css', 'fleet/report/run.css', 'fleet/report/bags.js']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        installed('launch'),
        installed('config'),
        installed('sros2/policies'),
    ],
    python_requires='>=3.10',
    # On a robot everything comes from package.xml; older setuptools would look for PyPI names at each start.
    install_requires=['setuptools'],
    extras_require={
        'desk': [
            'matplotlib',
            'numpy',
            'opencv-python-headless',
            'pyarrow',
            'pyyaml',
            'rosbags>=0.11.6',  # the first to compare checksums
            'rosbags-image',
            'safetensors',
            'torch>=2.1',
            'torchvision',
            'tqdm',
        ],
        'openvino': ['openvino'],
        'hdf5': ['h5py'],
        # Its later releases have other internals, which formats/lerobot.py corrects.
        'lerobot': ['lerobot>=0.4.4,<0.5'],
        'ray': ['ray[client]>=2.60'],
        # colcon runs pytest only where this names it.
        'test': [
            'flask',
            'flask-cors',
            'h5py',
            'hypothesis',
            'lerobot',
            'mcap-ros2-support',
            'moto[s3]',
            'pdoc',
            'pytest',
            'ray[client]',
            'triton',
        ],
    },
    entry_points={
        'console_scripts': [
            'fused_encoder = fused_encoder_ros.ros.main:main',
            'rig = fused_encoder_ros.ros.rig:main',
            'fused-encoder = fused_encoder_ros.__main__:main',
        ],
    },
    zip_safe=True,
)
