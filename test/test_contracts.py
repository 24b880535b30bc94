"""The spec, the settings and the rules of the house."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fused_encoder_ros.cli import main
from fused_encoder_ros.errors import ConfigError, first_line, in_one_line
from fused_encoder_ros.settings import Settings, load_yaml, parameters, read_parameter_file, read_spec_file
from fused_encoder_ros.spec import ObservationSpec

PACKAGE = Path(__file__).parent.parent / 'fused_encoder_ros'


def test_spec_survives_yaml() -> None:
    spec = ObservationSpec(
        pixel_mean=(0.5,) * 3, pixel_std=(0.1,) * 3, joint_names=('a',), joint_mean=(1.0,), joint_std=(2.0,)
    )
    assert ObservationSpec.from_dict(yaml.safe_load(yaml.safe_dump(spec.to_dict()))) == spec


def test_a_program_may_have_written_a_spec_with_aliases(tmp_path: Path) -> None:
    half = [0.5, 0.5, 0.5]
    text = yaml.safe_dump({'pixel_mean': half, 'pixel_std': half})
    assert '*' in text
    (tmp_path / 'spec.yaml').write_text(text)
    assert read_spec_file(tmp_path / 'spec.yaml').pixel_std == (0.5, 0.5, 0.5)
    (tmp_path / 'spec.yaml').write_text('image_size: &it {size: *it}')
    with pytest.raises(ConfigError, match='an alias that contains itself'):
        read_spec_file(tmp_path / 'spec.yaml')


@pytest.mark.parametrize(
    ('fields', 'says'),
    [
        ({'cameras': ()}, 'cameras: there are 0; name 1 to 8'),
        ({'cameras': tuple('abcdefghi')}, 'cameras: there are 9'),
        ({'cameras': ('left_wrist', 'left_wrist', 'global')}, "cameras: 'left_wrist' is named 2 times; name each camera once"),
        ({'cameras': ('left-wrist',)}, "cameras: 'left-wrist' cannot be part of a topic; use letters, digits"),
        ({'cameras': ('a__b',)}, "cameras: 'a__b' cannot be part of a topic"),
        ({'cameras': ('2nd',)}, "cameras: '2nd' cannot be part of a topic"),
        ({'cameras': ('',)}, "cameras: '' cannot be part of a topic"),
        ({'cameras': ('front', 'joint_states')}, "cameras: 'joint_states' is a reserved name"),
        ({'cameras': ('front',), 'pixel_mean': (0.0,) * 9, 'pixel_std': (1.0,) * 9}, 'has 9 values .*; expected 3 each'),
        ({'image_size': 4}, 'image_size: 4'),
        ({'interpolation': 'lanczos'}, 'interpolation'),
        ({'pixel_divisor': 0.0}, 'pixel_divisor'),
        ({'joint_names': ('a', 'a')}, 'joint_names'),
        ({'joint_mean': (0.0,) * 16}, 'joint_mean and joint_std go together'),
        ({'joint_mean': (0.0,) * 15, 'joint_std': (1.0,) * 15}, 'expected 16 each'),
        ({'pixel_mean': (0.0,) * 3, 'pixel_std': (1.0, 0.0, 1.0)}, 'pixel_std'),
        ({'joint_mean': (float('nan'),) * 16, 'joint_std': (1.0,) * 16}, 'finite'),
    ],
)
def test_unusable_specs_are_named(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ObservationSpec(**fields)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown field 'colour'"):
        ObservationSpec.from_dict({'colour': 1})


@pytest.mark.parametrize(
    ('values', 'says'),
    [
        ({'tolerance': 5}, 'tolerance: there is no such parameter; did you mean tolerance_ms'),
        ({'tolerance_ms': -1}, 'tolerance_ms: -1 is too small; use at least 0'),
        ({'tolerance_ms': '5'}, "tolerance_ms: '5' is not a number"),
        ({'tolerance_ms': float('nan')}, 'tolerance_ms'),
        ({'threads': 1.5}, 'threads: 1.5 is not a whole number'),
        ({'image_size': 5000}, 'image_size: 5000 is too large; use at most 1024'),
        ({'image_transport': 'theora'}, "image_transport: 'theora' is unknown; use one of"),
        ({'autostart': 'yes'}, 'autostart'),
        ({'topics.global': ''}, 'topics.global: the topic is empty'),
        ({'topics.global': 'left_wrist/image'}, 'left_wrist/image is also the topic of'),
        ({'topics.joint_states': []}, 'topics.joint_states: .* is not a list of names'),
        ({'topics.joint_states': ['/left', '']}, 'topics.joint_states: the topic is empty'),
        ({'topics.joint_states': ['/left', 'left']}, '/left is also the topic of joint_states; use each topic only once'),
        ({'topics.joint_states': ['/arms', 'global/image']}, 'topics.joint_states: /global/image is also the topic of global'),
        ({'joint_names': [1, 2]}, 'joint_names'),
        ({'joint_names': 5}, 'joint_names: 5 is not a list of names'),
        ({'cameras': {'left_wrist': 1}}, 'cameras'),
        ({'seed': 10**400}, 'seed'),
        ({'topics.global': '/left_wrist/image'}, '/left_wrist/image is also the topic of'),
        ({'zzz': 1}, 'zzz: there is no such parameter; use one of'),
        ({'checkpoint': 3}, 'checkpoint'),
        ({'horizon_s': 0.05}, 'horizon_s: 0.05 is shorter than'),
        ({'joint_mean': [0.0, 'x']}, 'joint_mean'),
        ({'joint_mean': 'null'}, "joint_mean: 'null' is not a list of numbers"),
    ],
)
def test_unusable_parameters_are_named(values: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Settings.from_values(values)


def test_whole_numbers_and_units() -> None:
    settings = Settings.from_values(
        {'tolerance_ms': 15, 'horizon_s': 2, 'joint_names': ['a'], 'joint_mean': [1], 'joint_std': [2]}
    )
    assert settings.sync.tolerance_ns == 15_000_000 and settings.sync.horizon_ns == 2_000_000_000
    assert settings.spec.joint_mean == (1.0,)


def test_compressed_topics() -> None:
    one = Settings.from_values({'topics.global': '/cam/image/compressed'})
    assert one.topics['global'] == ('/cam/image/compressed',) and one.topics['left_wrist'] == ('left_wrist/image',)
    every = Settings.from_values({'topics.global': '/cam/image/compressed', 'image_transport': 'compressed'})
    assert every.topics['global'] == ('/cam/image/compressed',)
    assert every.topics['left_wrist'] == ('left_wrist/image/compressed',) and every.topics['joint_states'] == ('joint_states',)


def test_parameter_files(tmp_path: Path) -> None:
    path = tmp_path / 'params.yaml'

    def read(text: str) -> dict[str, object]:
        path.write_text(text)
        return read_parameter_file(path)

    both = '/**:\n  ros__parameters:\n    use_sim_time: true\n    topics:\n      global: /g\n'
    both += '/robot/fused_encoder:\n  ros__parameters:\n    tolerance_ms: 7\nother:\n  ros__parameters:\n    x: 1\n'
    assert read(both) == {'topics.global': '/g', 'tolerance_ms': 7}
    assert read('/*:\n  ros__parameters:\n    tolerance_ms: 7\n') == {'tolerance_ms': 7}
    for text, says in (
        ('[', 'is not YAML as ROS reads it'),
        ('[' * 5000, 'is not YAML as ROS reads it'),
        ('/**: &a\n  ros__parameters: {x: *a}', r'ROS knows no aliases, as \*a in line 2; write it out'),
        ('? [fused_encoder]\n: {}', 'a key in line 1 is a list or a mapping'),
        ('/**:\n  ros__parameters: {seed: 1}\n/**:\n  ros__parameters: {}', r'/\*\* in line 3 is there twice; remove one'),
        ('- 1', 'not a ROS parameter file'),
        (
            'fused_encodr: {}',
            'has no section for fused_encoder \\(it has fused_encodr\\); rename fused_encodr to fused_encoder',
        ),
        ('other: {}', '\\(it has other\\); rename the section to fused_encoder, or to /\\*\\* for any node'),
    ):
        with pytest.raises(ConfigError, match=says):
            read(text)
    with pytest.raises(ConfigError, match='has no ros__parameters'):
        read('fused_encoder: {}')
    with pytest.raises(ConfigError, match=r'absent.yaml cannot be read: No such file'):
        read_parameter_file(tmp_path / 'absent.yaml')


def test_parameters_describe_themselves() -> None:
    for parameter in parameters():
        assert parameter.description and (parameter.minimum is None) == (parameter.maximum is None)
        parameter.check(parameter.default)


def test_what_libraries_say_becomes_one_line() -> None:
    """Theirs may be in colours, and pages long."""
    error = RuntimeError('\x1b[31mno \x1b[1;4mkernel\x1b[0m\n  for this GPU\n\nSet VARIABLE=1 to')
    assert in_one_line(error) == 'no kernel for this GPU Set VARIABLE=1 to' and first_line(error) == 'no kernel'
    assert len(in_one_line('x ' * 1000)) == 300 and first_line(RuntimeError()) == ''


# Which rooms a room may use; arrows point down only.
ALLOWED = {
    'spec.py': {'errors'},
    'pipeline': {'pipeline', 'spec', 'errors'},
    'model': {'model', 'spec', 'errors', '_lazy', '__init__'},
    'lab.py': {'errors'},
    'synthetic.py': {'lab', 'pipeline', 'spec', 'errors'},
    'content': {'content', 'pipeline', 'spec', 'errors', '__init__'},
    'settings': {'settings', 'content', 'pipeline', 'model', 'spec', 'errors'},
    'diagnosis': {'diagnosis', 'content', 'settings', 'pipeline', 'errors', '__init__'},
    'bench': {'bench', 'pipeline', 'model', 'spec', 'errors'},
    'ros': {'ros', 'bench', 'content', 'settings', 'synthetic', 'pipeline', 'model', 'spec', 'errors', '__init__'},
    'offline': {'offline', 'content', 'diagnosis', 'settings', 'synthetic', 'pipeline', 'model', 'spec', 'errors', '__init__'},
    'offline/report': {'offline', 'content', 'diagnosis', 'settings', 'pipeline', 'spec', 'errors', '__init__'},
    'fleet': {'fleet', 'offline', 'content', 'diagnosis', 'settings', 'pipeline', 'model', 'errors', '__init__'},
    'commands': {'commands', 'bench', 'ros', 'fleet', 'offline', 'content', 'diagnosis', 'settings', 'synthetic', 'pipeline'}
    | {'model', 'spec', 'errors'},
    'cli.py': {'commands', 'errors', '__init__', '_program'},
}
FOREIGN = {
    # No clock either: what makes a set depends on the messages alone.
    'pipeline': {'torch', 'torchvision', 'rclpy', 'time', 'datetime', 'threading', 'random'},
    'content': {'torch', 'torchvision', 'rclpy', 'time', 'datetime', 'threading', 'random'},
    'model': {'rclpy', 'cv2', 'rosbags'},
    'diagnosis': {'rclpy', 'rosbags', 'torch', 'pyarrow'},
    'offline': {'rclpy'},
    'fleet': {'rclpy', 'torch', 'cv2', 'rosbags'},
    'offline/report': {'rclpy', 'torch', 'pyarrow'},
}


@pytest.mark.parametrize(('room', 'above'), [('facts', ('rules', 'machine')), ('rules', ('machine',))])
def test_facts_know_no_rules(room: str, above: tuple[str, ...]) -> None:
    for path in (PACKAGE / 'diagnosis' / room).glob('*.py'):
        for name in imports(path):
            is_above = name.startswith(tuple(f'fused_encoder_ros.diagnosis.{other}' for other in above))
            assert not is_above, f'{path.name} imports {name}'


def test_the_package_is_a_program() -> None:
    done = subprocess.run([sys.executable, '-m', PACKAGE.name, '--version'], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith('fused-encoder ')


def test_ctrl_c_while_it_is_imported() -> None:
    code = """if True:
        import os, signal, sys
        class Interrupt:
            def find_spec(self, name, *_):
                if name.endswith('.commands'):
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Interrupt())
        from fused_encoder_ros.__main__ import main
        main()"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, '')


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['model', '--rounds', '0'], '--rounds: 0 is out of range; use 1 to 10000'),
        (['engines', '--threads', '1', '0'], '--threads: 0 is out of range; use 1 to 256'),
        (['node', '--duration', 'nan'], '--duration: nan is out of range; use 1 to 3600'),
        (['node', '--joint-rates', '-5'], '--joint-rates: -5 is out of range'),
        (['model', '--out', '/proc/figures.json'], 'output folder /proc cannot be written'),
        (['engines', '--picture', 'speeds.xyz'], '--picture: speeds.xyz does not end with .png'),
    ],
)
def test_benchmarks_refuse_at_once(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert main(['bench', *arguments]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ('text', 'value'),
    [('1e3', 1000.0), ('010', 8), ('0x10', 16), ('8_4', '8_4'), ('1:24', '1:24'), ('y', True), ('2026-01-01', '2026-01-01')],
)
def test_scalars_are_what_ros_takes_them_for(text: str, value: object) -> None:
    read = load_yaml(text)
    assert (read, type(read)) == (value, type(value))


def test_commands_that_need_no_torch_do_not_wait_for_it(tmp_path: Path) -> None:
    """torch takes seconds to import; help, a synthetic bag and what is said of one need none of it."""
    code = 'import sys; from fused_encoder_ros.cli import main; main(sys.argv[1:]); sys.exit("torch" in sys.modules)'
    bag = str(tmp_path / 'bag')
    for arguments in (
        ['rig', bag, '--duration', '1', '--size', '64x48'],
        ['sync-report', bag, '--out', str(tmp_path / 'x.html')],
        ['doctor', bag],
        ['export', bag, '--to', 'hdf5', '--out', str(tmp_path / 'episodes')],
    ):
        result = subprocess.run([sys.executable, '-c', code, *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 0 and result.stdout, result.stderr


@pytest.mark.parametrize('module', ['cli', 'ros.main'])
def test_programs_leave_the_cores_to_the_encoder(module: str) -> None:
    code = f'import {PACKAGE.name}.{module}, cv2; print(cv2.getNumThreads())'
    environment = {name: value for name, value in os.environ.items() if name != 'OPENCV_FOR_THREADS_NUM'}
    done = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == '1\n'


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module if node.module != 'fused_encoder_ros' else 'fused_encoder_ros.__init__')
    return found


@pytest.mark.parametrize('room', ALLOWED)
def test_arrows_of_import_point_down(room: str) -> None:
    place = PACKAGE / room
    for path in [place] if place.is_file() else sorted(place.rglob('*.py')):
        for name in imports(path):
            parts = name.split('.')
            if parts[0] == 'fused_encoder_ros':
                assert parts[1] in ALLOWED[room], f'{path.name} imports {name}'
            assert parts[0] not in FOREIGN.get(room, set()), f'{path.name} imports {name}'
            if parts[0] in ('rclpy', 'message_filters', 'launch'):
                assert room == 'ros', f'{path.name} imports {name}'
