"""The profile of the training data: a sample of what its observations show, small enough to travel with a checkpoint."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros import __version__
from fused_encoder_ros.content.looks import GRID, MEASURES, Look, Looker
from fused_encoder_ros.content.offsets import OffsetMeter
from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.pipeline.data import Observation
from fused_encoder_ros.spec import ObservationSpec

FORMAT = 1

_MOST_ROWS = 400
_MOST_BYTES = 850_000
_OF_THE_SPEC = ('cameras', 'image_size', 'interpolation', 'joint_names')
"""What decides how pictures and joints look; the scaling comes after."""


_MOST_OFFSETS = 64
"""Bags whose time offsets are kept."""


@dataclass(frozen=True)
class TrainedOffset:
    """By how much a camera's stamps lie beside those of the joints in the training data.

    Attributes:
        ms: the median over the bags; see `Offset.ms`.
        half_ms: half of its 95 % interval, as that of a single bag.
        bags: how many bags tell it.
    """

    ms: float
    half_ms: float
    bags: int


@dataclass(frozen=True, eq=False)
class Profile:
    """What observations of the training data show.

    The rows are a random sample, chosen by a hash of the bag and the stamp, so that it does not matter in which order bags
    are read, or which profiles are merged first.

    Attributes:
        fed: `cameras`, `image_size`, `interpolation` and `joint_names` of the observation spec.
        bags: how many bags.
        sets: how many observations.
        duration_ns: how long they last together, from the first to the last set of each bag.
        lowest, highest: float64 [J], the limits of each joint over all observations.
        offsets: by camera, for up to 64 bags that tell it: the bag's hash, the time offset in ms, and half of its interval.
        model_hash: SHA-256 of the weights that made the features; '' where rows have none.
        rows: a structured array [N] with the fields `key` and `bag` (uint64, hashes); `grids`, `measures`, `joints` and
            `speeds` as in `Look`; and `feature`, float16 [D].
    """

    fed: Mapping[str, Any]
    bags: int
    sets: int
    duration_ns: int
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    offsets: Mapping[str, list[tuple[int, float, float]]]
    model_hash: str
    rows: NDArray[np.void]

    def check_fits(self, spec: ObservationSpec, where: str) -> None:
        """Whether it is of observations of this kind. Raises ConfigError, which names the difference."""
        for name, wanted in fed_by(spec).items():
            if self.fed[name] != wanted:
                raise ConfigError(
                    f'{where}: the profile was made with {name} {self.fed[name]}, but the observation spec has {wanted}; '
                    'make the profile again with the same spec'
                )

    def trained_offsets(self) -> dict[str, TrainedOffset]:
        """The time offset of each camera, where bags tell one."""
        return {
            camera: TrainedOffset(float(np.median([ms for _, ms, _ in told])), max(half for _, _, half in told), len(told))
            for camera, told in self.offsets.items()
            if told
        }

    def looks(self) -> list[Look]:
        """The rows as looks; their stamps are not kept."""
        return [
            Look(0, row['grids'], row['measures'], row['joints'].astype(np.float64), row['speeds'].astype(np.float64))
            for row in self.rows
        ]

    def to_bytes(self) -> bytes:
        """The contents of a profile file: NumPy's .npz with the arrays `about` (JSON) and `rows`."""
        about = {
            'format': FORMAT,
            'version': __version__,
            'fed': dict(self.fed),
            'bags': self.bags,
            'sets': self.sets,
            'duration_ns': self.duration_ns,
            'lowest': self.lowest.tolist(),
            'highest': self.highest.tolist(),
            'offsets': {camera: list(map(list, told)) for camera, told in self.offsets.items()},
            'model_hash': self.model_hash,
        }
        about['hash'] = _hash(about, self.rows)
        file = io.BytesIO()
        np.savez_compressed(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), rows=self.rows)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, contents: bytes, where: str) -> Profile:
        """Read what `to_bytes` wrote.

        Args:
            contents: of the file.
            where: named in errors.

        Raises:
            ConfigError: when it is no profile, is damaged or altered, or of a newer format.
        """
        try:
            with np.load(io.BytesIO(contents), allow_pickle=False) as arrays:
                about: dict[str, Any] = json.loads(arrays['about'].tobytes())
                rows = arrays['rows']
            if about['format'] != FORMAT:
                raise ConfigError(
                    f'{where}: the profile is of format {about["format"]}, written by version {about["version"]}; this is '
                    f'version {__version__}, which reads format {FORMAT}; make the profile again with this version'
                )
            if about.pop('hash') != _hash(about, rows):
                raise ConfigError(f'{where}: the profile was altered after it was written; make it again')
            lowest, highest = (np.array(about[name], np.float64) for name in ('lowest', 'highest'))
            counts = (int(about['bags']), int(about['sets']), int(about['duration_ns']))
            offsets = {
                camera: [(int(b), float(ms), float(half)) for b, ms, half in v] for camera, v in about['offsets'].items()
            }
            return cls(about['fed'], *counts, lowest, highest, offsets, about['model_hash'], rows)
        except ConfigError:
            raise
        except Exception as error:  # what zipfile, zlib, NumPy and JSON raise, depending on where it is damaged
            raise ConfigError(
                f'{where}: this is not a profile, or it is truncated ({error}); make one with `fused-encoder profile`'
            ) from error


class ProfileMaker:
    """Makes the profile of one bag, an observation at a time.

    Args:
        spec: what the observations are like.

    Attributes:
        meter: measures time offsets, if a pipeline shows it the bag's frames and joints; see `Pipeline.watch_motion`.
    """

    def __init__(self, spec: ObservationSpec) -> None:
        self._spec = spec
        self._looker = Looker(spec.cameras)
        self.meter = OffsetMeter(spec.cameras)
        self._bag = b''
        self._sets = 0
        self._first_ns = self._last_ns = 0
        joints = len(spec.joint_names)
        self._lowest, self._highest = np.full(joints, np.inf), np.full(joints, -np.inf)
        self._kept: list[tuple[int, Look, Observation]] = []
        self._limit = _limit(row_type(spec, 0))

    def see(self, observation: Observation) -> None:
        """Take the next observation."""
        if not self._sets:
            self._first_ns = observation.stamp_ns
            self._bag = hashlib.blake2b(
                observation.images.tobytes() + str(observation.stamp_ns).encode(), digest_size=8
            ).digest()
        self._sets += 1
        self._last_ns = max(self._last_ns, observation.stamp_ns)
        np.minimum(self._lowest, observation.joint_positions, out=self._lowest)
        np.maximum(self._highest, observation.joint_positions, out=self._highest)
        if (look := self._looker.look(observation)) is not None:
            key = hashlib.blake2b(self._bag + str(look.stamp_ns).encode(), digest_size=8).digest()
            self._kept.append((int.from_bytes(key, 'little'), look, observation))
            if len(self._kept) >= 2 * self._limit:
                self._kept = self._smallest()

    def _smallest(self) -> list[tuple[int, Look, Observation]]:
        return sorted(self._kept, key=lambda kept: kept[0])[: self._limit]

    @property
    def observations(self) -> list[Observation]:
        """Those that the rows are of, to be encoded."""
        return [observation for _, _, observation in self._smallest()]

    def finish(self, features: NDArray[np.float32] | None = None, model_hash: str = '') -> Profile:
        """The profile of what has been seen.

        Args:
            features: float32 [N,D] of `observations`; None for a profile without features.
            model_hash: of the weights that made them.

        Raises:
            ConfigError: when there was too little to see.
        """
        kept = self._smallest()
        if not kept:
            raise ConfigError(f'{self._sets} sets are too few for a profile; give at least one second of sets')
        rows = np.zeros(len(kept), row_type(self._spec, 0 if features is None else features.shape[1]))
        rows['key'] = [key for key, _, _ in kept]
        rows['bag'] = int.from_bytes(self._bag, 'little')
        for name in ('grids', 'measures', 'joints', 'speeds'):
            rows[name] = [getattr(look, name) for _, look, _ in kept]
        if features is not None:
            rows['feature'] = np.clip(features, *(np.finfo(np.float16).max * np.array([-1, 1])))
        duration_ns = max(self._last_ns - self._first_ns, 0)
        one = Profile(
            fed_by(self._spec), 1, self._sets, duration_ns, self._lowest, self._highest, self._offsets(), model_hash, rows
        )
        return merge([one])

    def _offsets(self) -> dict[str, list[tuple[int, float, float]]]:
        bag = int.from_bytes(self._bag, 'little')
        return {
            camera: [] if told.ms is None or told.high_ms is None else [(bag, told.ms, told.high_ms - told.ms)]
            for camera, told in self.meter.offsets().items()
        }


def _merged_offsets(profiles: Sequence[Profile]) -> dict[str, list[tuple[int, float, float]]]:
    return {
        camera: sorted(told for profile in profiles for told in profile.offsets[camera])[:_MOST_OFFSETS]
        for camera in profiles[0].offsets
    }


def merge(profiles: Sequence[Profile]) -> Profile:
    """One profile of the bags of several, whatever their order.

    Raises:
        ConfigError: when they are of different observations or weights, or have a bag in common.
    """
    first = profiles[0]
    for other in profiles[1:]:
        for name, value in first.fed.items():
            if other.fed[name] != value:
                raise ConfigError(f'profiles of different observations cannot be merged: {name} {value} and {other.fed[name]}')
        if other.model_hash != first.model_hash:
            raise ConfigError(
                'profiles cannot be merged: their features come from encoders with different weights; give the same '
                '--checkpoint'
            )
    owners: dict[int, int] = {}
    for number, profile in enumerate(profiles):
        for bag in np.unique(profile.rows['bag']).tolist():
            if owners.setdefault(bag, number) != number:
                raise ConfigError('profiles cannot be merged: the same bag is in two of them; name each bag once')
    rows = np.concatenate([profile.rows for profile in profiles])
    rows = rows[np.argsort(rows['key'], kind='stable')][: _limit(rows.dtype)]
    return Profile(
        first.fed,
        sum(profile.bags for profile in profiles),
        sum(profile.sets for profile in profiles),
        sum(profile.duration_ns for profile in profiles),
        np.min([profile.lowest for profile in profiles], axis=0),
        np.max([profile.highest for profile in profiles], axis=0),
        _merged_offsets(profiles),
        first.model_hash,
        rows,
    )


def fed_by(spec: ObservationSpec) -> dict[str, Any]:
    """What of a spec a profile depends on."""
    values = spec.to_dict()
    return {name: values[name] for name in _OF_THE_SPEC}


def row_type(spec: ObservationSpec, feature_dim: int) -> np.dtype[np.void]:
    """The type of a profile's rows."""
    cameras, joints = len(spec.cameras), len(spec.joint_names)
    return np.dtype(
        [
            ('key', '<u8'),
            ('bag', '<u8'),
            ('grids', 'u1', (cameras, GRID, GRID, 3)),
            ('measures', '<f4', (cameras, len(MEASURES))),
            ('joints', '<f4', (joints,)),
            ('speeds', '<f4', (joints,)),
            ('feature', '<f2', (feature_dim,)),
        ]
    )


def _limit(rows: np.dtype[np.void]) -> int:
    return min(_MOST_ROWS, _MOST_BYTES // rows.itemsize)


def _hash(about: Mapping[str, Any], rows: NDArray[np.void]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    digest.update(str(rows.dtype).encode() + rows.tobytes())
    return digest.hexdigest()
