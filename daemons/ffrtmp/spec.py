"""What a job asks for, in full: the form in which the API takes it, the store keeps it and an agent gets it.

The master resolves a submission once (scenario, overrides, media roots, pattern, output name) into a `JobSpec`;
from then on nobody looks a scenario up again, so an edit of a scenario file changes no job that was accepted.

Units are in the names. A path is (root, relative): the *name* and *identity* of a media root and a path inside it.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

Kind = Literal["file", "live", "ladder", "thumbnails", "audio", "probe", "plain"]
EngineName = Literal["ffmpeg", "gstreamer", "auto"]
Codec = Literal["h264", "h265", "vp9", "av1", "copy"]
AudioCodec = Literal["aac", "opus", "flac", "mp3", "copy"]


class Base(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A frozen record whose unset fields do not travel and whose unknown fields are an error."""


class Video(Base, frozen=True):
    """What the picture is to become. Zero or empty means: as the source has it."""

    codec: Codec = "h264"
    encoder: str = ""  # a particular one (libx264, h264_nvenc, ...); empty: the software encoder of `codec`
    width: int = 0  # the box that the picture is fitted into, never enlarged unless `upscale`
    height: int = 0
    fps: float = 0.0  # an upper bound on the frame rate
    bitrate_bps: int = 0
    max_bitrate_bps: int = 0
    crf: int = -1
    preset: str = ""
    profile: str = ""
    pixel_format: str = "yuv420p"
    gop_s: float = 0.0
    upscale: bool = False


class Audio(Base, frozen=True):
    """What the sound is to become. A source without sound stays without."""

    codec: AudioCodec = "aac"
    bitrate_bps: int = 128_000
    sample_rate_hz: int = 0
    channels: int = 0


class Thumbnails(Base, frozen=True):
    """Pictures taken out of a video: one every `every_s`, at most `limit`, `width` pixels wide, in a folder."""

    every_s: float = 10.0
    width: int = 320
    limit: int = 1000
    format: Literal["jpg", "png"] = "jpg"


class Needs(Base, frozen=True):
    """What a node must have, beyond the media roots. Zero or empty means nothing asked."""

    cpu_milli: int = 1000  # thousandths of a core
    memory_bytes: int = 512 << 20
    scratch_bytes: int = 0
    encoders: tuple[str, ...] = ()  # ffmpeg encoder names, proved on the node
    engine: str = "ffmpeg"
    labels: tuple[str, ...] = ()


class Limits(Base, frozen=True):
    """What one attempt may use. Zero means no limit."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    file_bytes: int = 0
    time_s: float = 0.0  # of unpaused time
    nice: int = 0
    io_weight: int = 0  # 1..10000, systemd's IOWeight=
    tasks: int = 0


class Recipe(Base, frozen=True):
    """A scenario, resolved."""

    scenario: str
    kind: Kind = "file"
    description: str = ""
    video: Video | None = None
    audio: Audio | None = None
    thumbnails: Thumbnails | None = None
    container: str = "mp4"  # mp4 mkv webm mov mp3 m4a flac ogg json, or a folder of jpg/png
    engine: EngineName = "ffmpeg"
    needs: Needs = field(default_factory=Needs)
    limits: Limits = field(default_factory=Limits)
    quality: tuple[Literal["psnr", "ssim", "vmaf"], ...] = ()  # compared with the source after the encode, when asked


class MediaPath(Base, frozen=True):
    """A path inside a media root."""

    root: str  # the root's name
    root_id: str  # the root's identity, ROOT/.ffrtmp/root-id
    relative: str  # normalised, no leading slash, no "..", never inside .ffrtmp
    node: str = ""  # the node that was written with it (ROOT@NODE); says how it is shown, not where the job runs


class Pattern(Base, frozen=True):
    """A generated test picture (ffmpeg's testsrc2) with a tone."""

    width: int = 1280
    height: int = 720
    fps: float = 30.0
    duration_s: float = 60.0


class Source(Base, frozen=True):
    """Exactly one of the three is set."""

    path: MediaPath | None = None
    url: str = ""
    pattern: Pattern | None = None


Classification = Literal["production", "test", "benchmark", "debug"]


class JobSpec(Base, frozen=True):
    """One job as it was accepted."""

    recipe: Recipe
    source: Source
    output: MediaPath | None = None  # None: live outputs (URLs) only
    output_urls: tuple[str, ...] = ()
    overwrite: bool = False
    arguments: tuple[str, ...] = ()  # `jobs run`: plain ffmpeg arguments with {input} and {output}
    classification: Classification = "production"
    on_disconnect: Literal["keep", "stop"] = "keep"
    traceparent: str = ""
    retry_of: int = 0
    note: str = ""  # the submitter's own words


class Fingerprint(Base, frozen=True):
    """What makes an output recognisable: total size and digest (SHA-256 over names and contents, hex)."""

    size_bytes: int
    digest: str


class Results(Base, frozen=True):
    """What an attempt measured. None: not known."""

    frames: int | None = None
    fps: float | None = None
    encode_s: float | None = None
    media_s: float | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    input_bps: int | None = None
    output_bps: int | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    vmaf: float | None = None
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    energy_j: float | None = None


class Progress(Base, frozen=True):
    """How far an attempt is, from the engine's own report."""

    out_time_s: float = 0.0
    total_s: float = 0.0  # 0: unknown (live)
    frames: int = 0
    fps: float = 0.0
    speed: float = 0.0  # media seconds per second
    bitrate_bps: int = 0
    dropped: int = 0
    duplicated: int = 0

    @property
    def percent(self) -> float | None:
        """0..100, or None where the length is unknown."""
        if self.total_s <= 0:
            return None
        return max(0.0, min(100.0, 100.0 * self.out_time_s / self.total_s))

    @property
    def eta_s(self) -> float | None:
        """Seconds until the end at the present speed, or None."""
        if self.total_s <= 0 or self.speed <= 0:
            return None
        return max(0.0, (self.total_s - self.out_time_s) / self.speed)
