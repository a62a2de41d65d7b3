"""What users and owners write: submissions, job specifications, scenario and configuration files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from fuzz.engine import DEEP, REFUSED
from fuzz.shapes import TEXT, bitten, packed, sound, spoilt, toml, written
from fuzz.wires import MEMORY, listening
from hypothesis import strategies as st
from store.little_master import CAPACITY, little_master

from ffrtmp import scenario, wire
from ffrtmp.api import Submission
from ffrtmp.config import Config, settings, source
from ffrtmp.config_agent import AgentConfig
from ffrtmp.config_master import MasterConfig
from ffrtmp.errors import FarmError
from ffrtmp.farm import events as ev
from ffrtmp.spec import JobSpec, Recipe
from ffrtmp_agent.jobfile import Paths
from ffrtmp_agent.media import commands
from ffrtmp_master.api.call import decode
from ffrtmp_master.refusal import Refusal
from ffrtmp_master.submit import Known, prepare
from ffrtmp_master.turn import Asked

RECIPES = scenario.load((scenario.PACKAGED,))
ROOT_ID = "root-1"
ARGUMENTS = st.sampled_from(
    ("-i", "{input}", "{output}", "-c:v", "libx264", "-vf", "scale=640:-2", "-y", "x.mp4", "-an")
)
PLACES = st.sampled_from(
    ("media:in.mov", "media:a/b.mp4", "media:x.json", "media@a:z.mkv", "/media/u.mp4", "", "media:ü.mp4")
)


@contextmanager
def _room() -> Iterator[Path]:
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


class Submissions:
    """Bodies of POST /v1/jobs, through the decoder, the checks and a turn with its commit."""

    name = "submission"

    @contextmanager
    def open(self) -> Iterator[None]:
        with _room() as self._folder, listening() as self._loud:
            (self._folder / "began").mkdir()
            with little_master(self._folder / "began"):
                pass
            yield

    def examples(self) -> st.SearchStrategy[Any]:
        whole = st.integers(16, 1000) | st.none()
        hints = {
            "scenario": st.sampled_from(["720p-h264"] * 8 + sorted(RECIPES)),
            "input": PLACES | st.just("http://127.0.0.1/a.mp4"),
            "output": st.sampled_from(("", "media:made.mp4", "media:m/ü.mp4", "/media/n.mp4")) | PLACES,
            "overwrite": st.just(False),
            "generate": st.none(),
            "arguments": st.just([]),
            "output_urls": st.just([]),
            "labels": st.lists(st.sampled_from(("big", "gpu")), max_size=2),
            "quality": st.none() | st.just(["psnr"]),
            "engine": st.sampled_from((None, "ffmpeg", "auto")),
            "note": TEXT,
            "traceparent": st.just(""),
            "nice": st.none() | st.integers(0, 19),
            "io_weight": whole,
            "max_retries": st.none() | st.integers(0, 100),
            "cpu_milli": whole,
            "memory_bytes": st.none() | st.integers(16 << 20, 1 << 40),
            "file_bytes": st.none() | st.integers(1 << 10, 1 << 40),
            "time_s": st.none() | st.floats(1, 1000),
            "scratch_bytes": whole,
        }
        plain = hints | {"scenario": st.just(""), "arguments": st.lists(ARGUMENTS, max_size=9)}
        one = sound(Submission, hints) | sound(Submission, hints) | sound(Submission, plain)
        return st.lists(bitten(spoilt(one, 2).map(written)), min_size=2, max_size=4)

    def attempt(self, example: Any) -> str:
        known = Known(RECIPES, {"a": CAPACITY.roots})
        prepared = []
        for body in example:
            try:
                prepared.append(prepare(decode(body, Submission), known))
            except Refusal as refusal:
                assert 400 <= refusal.status < 500, refusal
        if not prepared:
            return REFUSED
        folder = self._folder / "now"
        shutil.copytree(self._folder / "began", folder)
        try:
            with little_master(folder) as master:
                asked = Asked(tuple(prepared), "somebody")
                said = master.ask(lambda n: ev.Submit(n, tuple(each.new for each in prepared)), asked=asked)
                master.turn()
                self._loud.check()
                assert said.status in (201, 409, 422), said
                assert len(master.store.load(0.0).jobs) == len(master.world.jobs)
                assert master.store.verify_history() == []
        finally:
            shutil.rmtree(folder)
        return DEEP


class Specifications:
    """Job specifications as an agent gets them, down to the command line of the engine."""

    name = "job specification"

    @contextmanager
    def open(self) -> Iterator[None]:
        yield

    def examples(self) -> st.SearchStrategy[Any]:
        hints = {
            "kind": st.sampled_from(("file", "file", "audio", "thumbnails", "probe", "plain", "live")),
            "container": st.sampled_from((*scenario.CONTAINERS, "json", "jpg")),
            "encoder": st.sampled_from(("", "libx264", "libx265", "h264_nvenc")),
            "arguments": st.lists(ARGUMENTS, max_size=9),
            "relative": PLACES,
        }
        return bitten(spoilt(sound(JobSpec, hints), 2).map(packed))

    def attempt(self, example: bytes) -> str:
        assign = packed(
            {"type": "Assign", "session": 1, "lineage": "l", "turn": 1, "uuid": "u", "job": 1, "attempt": 1}
        )
        frame = (
            bytes([assign[0] + 3]) + assign[1:] + packed("queue") + packed("live") + packed("priority") + packed("low")
        )
        try:
            message = wire.decode_from_master(frame + packed("spec") + example)
        except msgspec.DecodeError:
            return REFUSED
        assert isinstance(message, wire.Assign)
        spec = message.spec
        paths = Paths(
            spec.source.url or "/media/in.mov", "/media/.ffrtmp/1.1", "/media/out.mp4", "/media/.ffrtmp/1.1/out.mp4"
        )
        try:
            argv = commands.build(spec, paths)
            assert argv
            assert all(isinstance(each, str) for each in argv)
            assert commands.command_file(spec, paths).startswith("#!/bin/sh\n")
        except FarmError as error:
            assert error.what
        return DEEP


class Scenarios:
    """Scenario files, alone and as an alias of one another; a recipe that comes of one makes a command line or an error."""

    name = "scenario file"

    @contextmanager
    def open(self) -> Iterator[None]:
        with _room() as self._folder:
            yield

    def examples(self) -> st.SearchStrategy[Any]:
        even = st.integers(8, 1000).map(lambda n: 2 * n)
        rate = st.sampled_from(("10M", "800k", "1.5M", 64000))
        video = st.fixed_dictionaries(
            {"codec": st.sampled_from(("h264", "h265")), "width": even, "height": even},
            optional={"fps": st.integers(1, 240), "bitrate": rate, "preset": TEXT},
        )
        audio = st.fixed_dictionaries(
            {"codec": st.just("aac")}, optional={"bitrate": rate, "channels": st.integers(1, 8)}
        )
        size = st.sampled_from(("512MiB", "1GiB", "2G"))
        needs = st.fixed_dictionaries(
            {}, optional={"cpu": st.floats(0.1, 64), "memory": size, "labels": st.just(["big"])}
        )
        limits = st.fixed_dictionaries(
            {}, optional={"memory": size, "file": size, "time_s": st.floats(1, 1e6), "nice": st.just(3)}
        )
        whole = st.fixed_dictionaries(
            {"kind": st.just("file"), "container": st.sampled_from(("mp4", "mkv", "mov")), "video": video},
            optional={
                "description": TEXT,
                "audio": audio,
                "needs": needs,
                "limits": limits,
                "quality": st.just(["ssim"]),
            },
        )
        probe = st.fixed_dictionaries(
            {"kind": st.just("probe"), "container": st.just("json")}, optional={"needs": needs}
        )
        short = st.fixed_dictionaries(
            {"alias": st.sampled_from(("a", "A", "a", "b"))}, optional={"video": video, "limits": limits}
        )
        file = bitten(spoilt(whole | probe | whole).map(toml).map(str.encode))
        return st.tuples(file, st.none() | bitten(spoilt(short, 1).map(toml).map(str.encode)))

    def attempt(self, example: Any) -> str:
        for name, content in zip(("a", "b"), example, strict=True):
            (self._folder / f"{name}.toml").unlink(missing_ok=True)
            if content is not None:
                (self._folder / f"{name}.toml").write_bytes(content)
        try:
            recipes = scenario.load((self._folder,))
        except FarmError as error:
            assert error.hint
            return REFUSED
        for recipe in recipes.values():
            _command(recipe)
        return DEEP


def _command(recipe: Recipe) -> None:
    """What is made of a recipe: a pattern, what it needs, a command line."""
    spec = prepare(Submission(scenario="x", output=""), Known({"x": recipe}, {"a": CAPACITY.roots})).spec
    paths = Paths("/media/in.mov", "/media/.ffrtmp/1.1", "/media/out.mp4", "/media/.ffrtmp/1.1/out.mp4")
    try:
        commands.command_file(spec, paths)
    except FarmError as error:
        assert error.what
    msgspec.msgpack.decode(msgspec.msgpack.encode(spec), type=JobSpec)


class Configurations:
    """A configuration file with a drop-in, variables of the environment and flags, of both programs."""

    name = "configuration"

    @contextmanager
    def open(self) -> Iterator[None]:
        with _room() as self._folder:
            (self._folder / "f.toml.d").mkdir()
            yield

    def examples(self) -> st.SearchStrategy[Any]:
        return st.one_of([self._of(MasterConfig), self._of(AgentConfig)])

    def _of(self, config: type[Config]) -> st.SearchStrategy[Any]:
        known = settings(config)
        right = {
            name: st.just(setting.show(value)) if value is not None and setting.form != "table" else None
            for (name, setting), value in zip(known.items(), [getattr(config(), name) for name in known], strict=True)
        }
        numbers = {
            name: st.sampled_from(("1", "2", "0.5", "16MiB", "3s", "1h", "no", "a,b", "x=1", "nan", "1e400", "-1"))
            for name in known
        }
        mixed = {name: st.one_of([made] * 40 + [numbers[name]]) for name, made in right.items() if made is not None}
        table = st.dictionaries(st.sampled_from(sorted(mixed)), st.none(), max_size=3).flatmap(
            lambda names: st.fixed_dictionaries({name: mixed[name] for name in names})
        )
        file = bitten(spoilt(table, 1).map(toml).map(str.encode))
        flags = table.map(lambda given: {name: value for name, value in given.items() if known[name].form == "one"})
        environ = table.map(
            lambda given: {f"{config.ENV_PREFIX}{name.upper()}": value for name, value in given.items()}
        )
        return st.tuples(st.just(config), file, file, environ, flags)

    def attempt(self, example: Any) -> str:
        config, file, dropin, environ, flags = example
        (self._folder / "f.toml").write_bytes(file)
        (self._folder / "f.toml.d" / "1.toml").write_bytes(dropin)
        try:
            made = source(config, {**flags, "config": str(self._folder / "f.toml")}, environ).load()
        except FarmError as error:
            assert error.what
            return DEEP if "contradicts itself" in error.what else REFUSED
        assert all(
            setting.show(getattr(made, name)) is not None
            for name, setting in settings(config).items()
            if getattr(made, name) is not None
        )
        return DEEP


TARGETS = (Submissions, Specifications, Scenarios, Configurations)
