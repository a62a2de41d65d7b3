"""Scenarios."""

from __future__ import annotations

from argparse import Namespace

from ffrtmp.api import Page
from ffrtmp.errors import Exit
from ffrtmp.spec import Audio, Recipe, Video

from ..client import decode, pages, path_of
from ..context import Context
from ..render import cores, details, duration, rate, size, table
from .jobs import joined


def list_scenarios(args: Namespace, context: Context) -> int:
    """All recipes."""
    bodies = list(pages(context.master, "/v1/scenarios", {"limit": 1000}))
    if context.json:
        context.document(joined(bodies))
        return Exit.DONE
    recipes = [recipe for body in bodies for recipe in decode(body, Page[Recipe]).items]
    table(context.out, ("SCENARIO", "KIND", "VIDEO", "FORM", "DESCRIPTION"), (_row(recipe) for recipe in recipes))
    return Exit.DONE


def _row(recipe: Recipe) -> tuple[str, ...]:
    video = recipe.video
    picture = "" if video is None else " ".join(part for part in (video.codec, _box(video)) if part)
    return recipe.scenario, recipe.kind, picture, recipe.container, recipe.description


def _box(video: Video) -> str:
    box = f"{video.width}x{video.height}" if video.width and video.height else ""
    return box + (f"@{video.fps:g}" if video.fps else "")


def show(args: Namespace, context: Context) -> int:
    """All of one recipe."""
    reply = context.master.call("GET", path_of("scenarios", args.scenario))
    if context.json:
        context.document(reply.body)
        return Exit.DONE
    recipe = reply.into(Recipe)
    context.say(f"{recipe.scenario}: {recipe.description}" if recipe.description else recipe.scenario)
    details(context.out, _about(recipe))
    return Exit.DONE


def _about(recipe: Recipe) -> list[tuple[str, str]]:
    needs, limits = recipe.needs, recipe.limits
    pictures = recipe.thumbnails
    return [
        ("kind", recipe.kind),
        ("form", recipe.container),
        ("engine", recipe.engine),
        ("video", "" if recipe.video is None else _video(recipe.video)),
        ("audio", "" if recipe.audio is None else _audio(recipe.audio)),
        (
            "pictures",
            "" if pictures is None else f"one every {duration(pictures.every_s)}, {pictures.width} wide",
        ),
        ("measures", " ".join(recipe.quality)),
        ("needs", f"{cores(needs.cpu_milli)} cores, {size(needs.memory_bytes)} of memory"),
        ("encoders", " ".join(needs.encoders)),
        ("labels", " ".join(needs.labels)),
        ("at most", _limits(limits.cpu_milli, limits.memory_bytes, limits.file_bytes, limits.time_s)),
    ]


def _video(video: Video) -> str:
    words = [video.encoder or video.codec, _box(video)]
    words.append(rate(video.bitrate_bps) if video.bitrate_bps else "")
    words.append(f"crf {video.crf}" if video.crf >= 0 else "")
    words += [video.preset, video.profile, "enlarged where it is smaller" if video.upscale else ""]
    return ", ".join(word for word in words if word)


def _audio(audio: Audio) -> str:
    words = [audio.codec, rate(audio.bitrate_bps) if audio.bitrate_bps else ""]
    words.append(f"{audio.channels} channels" if audio.channels else "")
    return ", ".join(word for word in words if word)


def _limits(cpu_milli: int, memory_bytes: int, file_bytes: int, time_s: float) -> str:
    words = [
        f"{cores(cpu_milli)} cores" if cpu_milli else "",
        f"{size(memory_bytes)} of memory" if memory_bytes else "",
        f"{size(file_bytes)} a file" if file_bytes else "",
        duration(time_s) if time_s else "",
    ]
    return ", ".join(word for word in words if word)
