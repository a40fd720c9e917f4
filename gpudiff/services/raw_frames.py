"""Raw frames on their way to the subtraction: calibrated where they are not yet."""

from collections.abc import Callable
from pathlib import Path

from gpudiff.edges.calibrations import CalibrationStore
from gpudiff.model.calibration import Calibration
from gpudiff.model.config import Service
from gpudiff.model.errors import NoCalibration
from gpudiff.model.frame import Frame
from gpudiff.science.instrument_signature import remove_signature


def calibrator(
    service: Service, remove: Callable[[Frame, Calibration], Frame] = remove_signature
) -> Callable[[Frame], Frame]:
    """What makes a calibrated frame of any: a frame says itself whether it is raw, else `[service] raw` does.

    remove : science.instrument_signature.remove_signature, on whatever device

    Raises NoCalibration, naming the frame, and as remove_signature does.
    """
    store = CalibrationStore(Path(service.calibrations)) if service.calibrations else None

    def calibrated(frame: Frame) -> Frame:
        if frame.calibrated or (frame.calibrated is None and not service.raw):
            return frame
        if store is None:
            raise NoCalibration(f"{frame.name}: a raw frame: expected [service] calibrations, a folder of them")
        return remove(frame, store.find(frame))

    return calibrated
