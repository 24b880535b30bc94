"""Says of each observation whether what it shows may be encoded."""

from __future__ import annotations

from fused_encoder_ros.content.reference import Reference
from fused_encoder_ros.content.watch import Told, Watcher
from fused_encoder_ros.pipeline.data import Drop, Observation, Reason
from fused_encoder_ros.pipeline.pipeline import Pipeline

POLICIES = ('warn', 'refuse', 'off')


class ContentInspector:
    """Watches the observations of a pipeline, and drops them while a fault holds if it is to refuse.

    Args:
        reference: what the training data were like.
        refuses: whether observations are dropped while there is a fault; else faults are only told.

    Attributes:
        watcher: tells the faults.
    """

    def __init__(self, reference: Reference, refuses: bool) -> None:
        self.watcher = Watcher(reference)
        self._refuses = refuses

    def inspect(self, observation: Observation) -> Drop | None:
        """See `pipeline.Inspector`."""
        faults = self.watcher.see(observation)
        if not (faults and self._refuses):
            return None
        fault = faults[0]
        return Drop(observation.stamp_ns, fault.source, Reason.CONTENT, str(fault), fault.fault)


def watcher_of(pipeline: Pipeline) -> Watcher | None:
    """What watches the observations of a pipeline; None where nothing does."""
    inspector = pipeline.inspector
    return inspector.watcher if isinstance(inspector, ContentInspector) else None


def told_of(pipeline: Pipeline) -> list[Told]:
    """Every fault that was told of a pipeline's observations, in the order in which they began."""
    watcher = watcher_of(pipeline)
    return list(watcher.told.values()) if watcher else []
