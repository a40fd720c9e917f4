"""Every error gpudiff raises, drawn once.

GpudiffError
  InputRejected        the input is wrong and stays wrong: exit status 3, dead letter, never retried
    UnreadableFile       not FITS, truncated, absent
    NotAnImage           a cube, a table, an empty HDU
    WrongShape           shapes that should agree do not
    NoUsablePixels       too few finite, unmasked pixels
    ConstantImage        every pixel has the same value
    BadVariance          zero, negative or non-finite variance
    BadGain              gain, read noise or saturation that cannot be
    BadPsf               a PSF that is not one
    BadWcs               WCS keywords that no projection follows from
    NoOverlap            science and template show different sky
    NoStars              too few stars to match the PSFs
    PoorSubtraction      the fit did not reach its own noise; carries the numbers
    NoTemplate           no template covers the frame
    NoCalibration        a raw frame for whose detector, date or band there is no calibration
    BadMessage           a wire message that breaks the contract
      MissingKey           a required header key is absent
      WrongCoordinates     an announced visit that is not in ICRS with a sky angle
      ChecksumMismatch     a plane is not what its checksum says
    BadConfiguration     a key or value of the configuration is wrong
      BadFilter            a filter's expression, or another of its fields, is refused
  TryAgain             the work is good, the moment is not: retried up to three times
    NoCredit             more frames in flight than the service granted
    LostSegment          shared memory that a message names is gone, or holds another frame by now
    NeighbourLost        the other program did not answer in time
      AssociatorAway       that of a frame's part of the sky is gone, where several share it
  MustStop             the program cannot go on: it stops cleanly and hands its work back
    StoreFailed          the ledger or archive cannot be written (disk full, corrupt)
    DeviceFailed         a GPU was asked for and cannot be used, or failed at work
      DeviceFull           its memory does not hold what is asked for
"""


class GpudiffError(Exception):
    """Root of the tree; `exit_status` is what the command line returns for it."""

    exit_status = 1

    @property
    def name(self) -> str:
        """The error's name, as receipts, dead letters and counters show it."""
        return type(self).__name__


class InputRejected(GpudiffError):
    exit_status = 3


class UnreadableFile(InputRejected):
    pass


class NotAnImage(InputRejected):
    pass


class WrongShape(InputRejected):
    pass


class NoUsablePixels(InputRejected):
    pass


class ConstantImage(InputRejected):
    pass


class BadVariance(InputRejected):
    pass


class BadGain(InputRejected):
    pass


class BadPsf(InputRejected):
    pass


class BadWcs(InputRejected):
    pass


class NoOverlap(InputRejected):
    pass


class NoStars(InputRejected):
    pass


class PoorSubtraction(InputRejected):
    pass


class NoTemplate(InputRejected):
    pass


class NoCalibration(InputRejected):
    pass


class BadMessage(InputRejected):
    pass


class MissingKey(BadMessage):
    pass


class WrongCoordinates(BadMessage):
    pass


class ChecksumMismatch(BadMessage):
    pass


class BadConfiguration(InputRejected):
    pass


class BadFilter(BadConfiguration):
    pass


class TryAgain(GpudiffError):
    pass


class NoCredit(TryAgain):
    pass


class LostSegment(TryAgain):
    pass


class NeighbourLost(TryAgain):
    pass


class AssociatorAway(NeighbourLost):
    pass


class MustStop(GpudiffError):
    exit_status = 4


class StoreFailed(MustStop):
    pass


class DeviceFailed(MustStop):
    exit_status = 3


class DeviceFull(DeviceFailed):
    pass
