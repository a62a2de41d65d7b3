"""From a submission to a job: everything is looked up, checked and written down once, here, before the farm sees it.

Pure: the recipes, what nodes announce and fresh identities come in as arguments, a `PreparedJob` or a `Refusal` comes out.
One thing is not known yet, the job's number, and a default output is named after it. Its path carries `NUMBER_MARK`, which
no user can write (paths with control characters are refused), until `complete` puts the number there in the turn that
gives it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from uuid import uuid4

from msgspec.structs import replace

from ffrtmp import scenario
from ffrtmp.api import Submission
from ffrtmp.arguments import check_arguments
from ffrtmp.errors import Exit, FarmError
from ffrtmp.farm.events import NewJob
from ffrtmp.farm.job import OnDisconnect, Priority, Queue, Requirements, Terms
from ffrtmp.spec import JobSpec, MediaPath, Recipe, Source

from . import bounds, paths
from .refusal import Refusal

NUMBER_MARK = "\0"
DEFAULT_FOLDER = "jobs"
URL_SCHEMES = ("http", "https")
# Names that mean the same container; any other container is its own extension.
EXTENSIONS = {"mp4": ("mp4", "m4v"), "mkv": ("mkv", "mka"), "ogg": ("ogg", "oga", "opus"), "mov": ("mov", "qt")}
# aac, mjpeg and png are ffmpeg's own and always there; these may be missing from a build.
SOUND_ENCODERS = {"opus": "libopus", "mp3": "libmp3lame"}
_OWN_NAME = re.compile(DEFAULT_FOLDER + r"/[0-9]+(?:[./].*)?", re.DOTALL)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A job that can be accepted. `output_key` is "ROOT-ID:relative"; empty where the name waits for the number."""

    new: NewJob
    spec: JobSpec
    output_key: str = ""


@dataclass(frozen=True)
class Known:
    """What a submission is read against. One for a whole batch: what is derived from all nodes is derived once."""

    recipes: Mapping[str, Recipe]
    roots: paths.Roots
    max_retries: int = 3
    labels_max: int = 32
    fresh_uuid: Callable[[], str] = field(default=lambda: str(uuid4()))

    @cached_property
    def writable(self) -> Mapping[str, paths.Meaning]:
        """The roots that may be written, by identity."""
        return paths.writable(self.roots)


def prepare(submission: Submission, known: Known) -> PreparedJob:
    """The job that a submission asks for; raises Refusal (409 for what is ambiguous or not there yet, else 422)."""
    bounds.check(submission, known.labels_max)
    recipe = _adjusted(_recipe(submission, known.recipes), submission)
    source = _source(submission, recipe, known.roots)
    spec = JobSpec(
        recipe=recipe,
        source=source,
        output=_output(submission, recipe, source, known),
        overwrite=submission.overwrite,
        arguments=submission.arguments,
        classification=submission.classification,
        on_disconnect=submission.on_disconnect,
        traceparent=submission.traceparent,
        note=submission.note,
    )
    queue = Queue[(submission.queue or "default").upper()]
    retries = known.max_retries if submission.max_retries is None else submission.max_retries
    terms = terms_of(spec, queue, Priority[submission.priority.upper()], retries)
    return _prepared(spec, terms, known.fresh_uuid(), strict=submission.strict)


def again(spec: JobSpec, terms: Terms, number: int, fresh_uuid: Callable[[], str]) -> PreparedJob:
    """A new job that asks for what job `number` asked for (`jobs retry`); the output keeps its name."""
    return _prepared(replace(spec, retry_of=number), terms, fresh_uuid())


def complete(spec: JobSpec, number: int) -> JobSpec:
    """The specification with a default output named after the job's number; any other comes back as it is."""
    if spec.output is None or NUMBER_MARK not in spec.output.relative:
        return spec
    return replace(spec, output=replace(spec.output, relative=spec.output.relative.replace(NUMBER_MARK, str(number))))


def output_key(spec: JobSpec) -> str:
    """ "ROOT-ID:relative" of the output, which is unique among open jobs; empty without one, or before `complete`."""
    if spec.output is None or NUMBER_MARK in spec.output.relative:
        return ""
    return f"{spec.output.root_id}:{spec.output.relative}"


def terms_of(spec: JobSpec, queue: Queue, priority: Priority, max_retries: int) -> Terms:
    """What the farm must know of a job. Requirements are as asked; the farm rounds them up."""
    return Terms(
        queue=queue,
        priority=priority,
        requirements=_requirements(spec),
        max_retries=max_retries,
        on_disconnect=OnDisconnect(spec.on_disconnect),
        live=spec.recipe.kind == "live",
    )


def find_recipe(name: str, recipes: Mapping[str, Recipe], *, status: int = 404) -> Recipe:
    """A scenario by name, whatever the case of its letters; raises Refusal with the nearest names."""
    try:
        return scenario.find(dict(recipes), name)
    except FarmError as error:
        raise Refusal(status if error.code is Exit.NOT_FOUND else 422, error.what, hint=error.hint) from None


def _prepared(spec: JobSpec, terms: Terms, uuid: str, *, strict: bool = False) -> PreparedJob:
    key = output_key(spec)
    return PreparedJob(NewJob(uuid=uuid, terms=terms, strict=strict, output=key), spec, key)


# ---- the recipe ----------------------------------------------------------------------------------------------------


def _recipe(submission: Submission, recipes: Mapping[str, Recipe]) -> Recipe:
    if submission.arguments:
        if submission.scenario:
            raise Refusal(422, "a job has a scenario or plain arguments, not both", hint="leave one of them out")
        try:
            check_arguments(submission.arguments)
        except FarmError as error:
            raise Refusal(422, error.what, hint=error.hint) from None
        return Recipe(scenario="run", kind="plain", description="plain ffmpeg arguments")
    if not submission.scenario:
        raise Refusal(422, "no scenario is given", hint="`ffrtmpctl scenarios list` shows them")
    return find_recipe(submission.scenario, recipes, status=422)


def _adjusted(recipe: Recipe, asked: Submission) -> Recipe:
    """The recipe with what the submission says instead. CPU and memory are both what is needed and what is allowed."""
    needs: dict[str, object] = {"labels": tuple(sorted({*recipe.needs.labels, *asked.labels}))}
    limits: dict[str, object] = {}
    for name, wanted in (("cpu_milli", asked.cpu_milli), ("memory_bytes", asked.memory_bytes)):
        if wanted is not None:
            needs[name] = limits[name] = wanted
    if asked.scratch_bytes is not None:
        needs["scratch_bytes"] = asked.scratch_bytes
    for name in ("file_bytes", "time_s", "nice", "io_weight"):
        if (wanted := getattr(asked, name)) is not None:
            limits[name] = wanted
    if asked.quality and recipe.kind != "file":
        raise Refusal(422, f"quality can be measured of encoded files, not of kind {recipe.kind}")
    needs["engine"] = _engine(asked.engine or recipe.engine)
    return replace(
        recipe,
        engine="ffmpeg",
        quality=recipe.quality if asked.quality is None else asked.quality,
        needs=replace(recipe.needs, **needs),
        limits=replace(recipe.limits, **limits),
    )


def _engine(name: str) -> str:
    """Files are made by ffmpeg; `auto` chooses it for them."""
    if name == "gstreamer":
        raise Refusal(422, "engine gstreamer is for live jobs; files are made by ffmpeg", hint="leave --engine out")
    return "ffmpeg"


def _requirements(spec: JobSpec) -> Requirements:
    needs, features = spec.recipe.needs, set()
    roots = set()
    if spec.source.path is not None:
        roots.add(f"{spec.source.path.root_id}:r")
    if spec.output is not None:
        roots.add(f"{spec.output.root_id}:w")
    if spec.source.url:
        features.add("protocol:" + spec.source.url.partition("://")[0].lower())
    if spec.recipe.kind == "plain":
        features.add("run")
    return Requirements(
        cpu_milli=needs.cpu_milli,
        memory_bytes=needs.memory_bytes,
        scratch_bytes=needs.scratch_bytes,
        encoders=_encoders(spec.recipe),
        engine=needs.engine,
        roots=frozenset(roots),
        labels=frozenset(needs.labels),
        features=frozenset(features),
    )


def _encoders(recipe: Recipe) -> frozenset[str]:
    """The encoders that a node must have proved."""
    names = {*recipe.needs.encoders, scenario.encoder_of(recipe)}
    if recipe.audio is not None:
        names.add(SOUND_ENCODERS.get(recipe.audio.codec, ""))
    return frozenset(names - {""})


# ---- input and output ----------------------------------------------------------------------------------------------


def _source(submission: Submission, recipe: Recipe, roots: paths.Roots) -> Source:
    if submission.input and submission.generate is not None:
        raise Refusal(422, "a job has an input or a generated pattern, not both", hint="leave one of them out")
    if recipe.kind == "plain" and not submission.input:
        raise Refusal(422, "plain arguments need an input", hint="give --input")
    if not submission.input:
        _refuse_to_replace_by_default(submission)
        return Source(pattern=submission.generate or scenario.pattern(recipe))
    url = _SCHEME.fullmatch(submission.input)
    if url is not None:
        return Source(url=_url(submission.input, url.group(1).lower(), url.group(2)))
    if submission.input.endswith("/"):
        raise Refusal(422, "the input is a folder", hint="name a file")
    return Source(path=paths.resolve(submission.input, roots, "input"))


def _refuse_to_replace_by_default(submission: Submission) -> None:
    """A forgotten input must not cost a film: what replaces a file is named by somebody."""
    if submission.overwrite and submission.generate is None:
        raise Refusal(
            422,
            "which input? without one, a test pattern would replace what stands at the output",
            hint="give --input, or --generate where a test pattern is to replace it",
        )


def _url(text: str, scheme: str, rest: str) -> str:
    """An input URL; raises Refusal for a protocol that is not read, and for what ffmpeg could take for something else."""
    if scheme == "file":
        raise Refusal(422, "file: URLs are not taken", hint="write the path: ROOT:path or an absolute one")
    if scheme not in URL_SCHEMES:
        raise Refusal(
            422, f"an input of protocol {scheme} cannot be read", hint=f"one of {', '.join(URL_SCHEMES)}, or a file"
        )
    if len(text.encode()) > paths.TEXT_MAX_BYTES:
        raise Refusal(422, f"the input URL is longer than {paths.TEXT_MAX_BYTES} bytes")
    if any(ord(each) <= 0x20 or ord(each) == 0x7F for each in text):
        raise Refusal(422, "the input URL has a space or control character in it", hint="write %20 for a space")
    if not re.split(r"[/?#]", rest)[0].rpartition("@")[2]:
        raise Refusal(422, "the input URL names no host")
    return text


def _output(submission: Submission, recipe: Recipe, source: Source, known: Known) -> MediaPath:
    if submission.output_urls:
        raise Refusal(422, f"a job of kind {recipe.kind} writes a file, not to a URL", hint="give --output")
    if not submission.output:
        return _default_output(recipe, source, known)
    if _SCHEME.fullmatch(submission.output):
        raise Refusal(422, f"a job of kind {recipe.kind} writes a file, not to a URL", hint="give ROOT:path or a path")
    output = paths.resolve(submission.output, known.roots, "output")
    if _OWN_NAME.fullmatch(output.relative):
        raise Refusal(
            422,
            f'the output "{output.relative}" is a name that the farm gives by job number',
            hint="leave --output out, or choose another name",
        )
    if source.path is not None and (source.path.root_id, source.path.relative) == (output.root_id, output.relative):
        raise Refusal(422, "input and output are the same file", hint="choose another output")
    _check_extension(submission.output, recipe)
    return output


def _check_extension(text: str, recipe: Recipe) -> None:
    if not scenario.extension(recipe):
        return
    if text.endswith("/"):
        raise Refusal(422, "the output is a folder", hint="name the file that is to be made")
    if recipe.kind == "plain":
        return
    allowed = EXTENSIONS.get(recipe.container, (recipe.container,))
    extension = text.rpartition("/")[2].rpartition(".")[2].lower()
    if extension not in allowed:
        raise Refusal(
            422,
            f'scenario "{recipe.scenario}" makes {recipe.container}, and the output is not named so',
            hint=f"end the output's name in .{allowed[0]}",
        )


def _default_output(recipe: Recipe, source: Source, known: Known) -> MediaPath:
    """ROOT/jobs/NUMBER.EXT: in the input's own root where that can be written, else in the only one that can."""
    if recipe.kind == "plain":
        raise Refusal(422, "plain arguments need an output", hint="give --output")
    writable = known.writable
    if not writable and not any(known.roots.values()):
        raise paths.no_roots(known.roots)
    extension = scenario.extension(recipe)
    name = f"{DEFAULT_FOLDER}/{NUMBER_MARK}" + (f".{extension}" if extension else "")
    if source.path is not None and source.path.root_id in writable:
        return replace(source.path, relative=name)
    if len(writable) == 1:
        (only,) = writable.values()
        return MediaPath(root=only.root.name, root_id=only.root.identity, relative=name)
    if not writable:
        raise Refusal(409, "no node announces a media root that can be written", hint="see `ffrtmpctl nodes list`")
    raise Refusal(
        409,
        f"no output is given, and there are {len(writable)} media roots that it could go to",
        hint="give --output",
        choices=tuple(f"{each.root.name}@{each.node}:" for each in writable.values())[: paths.CHOICES_MAX],
    )
