"""Settings are declared once and can be given in four ways; what is wrong is said with its place, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffrtmp import config
from ffrtmp.config_agent import AgentConfig, MediaRoot
from ffrtmp.config_master import MasterConfig
from ffrtmp.errors import Exit, FarmError
from ffrtmp.quantity import format_duration, format_size, parse_duration_s, parse_size_bytes


def test_flags_win_over_the_environment_over_dropins_over_the_file_over_the_default(tmp_path: Path):
    file = tmp_path / "master.toml"
    file.write_text('lost_after = "20s"\nmax_retries = 1\ngrant_ttl = 2\nreserve_after = "1min"\n')
    dropins = tmp_path / "master.toml.d"
    dropins.mkdir()
    (dropins / "10-a.toml").write_text("max_retries = 2\ngrant_ttl = 3\nreserve_after = 2\n")
    (dropins / "20-b.toml").write_text("grant_ttl = 4\nreserve_after = 3\n")
    environ = {"FFRTMP_MASTER_RESERVE_AFTER": "4s", "FFRTMP_MASTER_LOG_MAX": "1MiB", "HOME": "/"}
    got = config.load(MasterConfig, ["--log-max", "2MiB"], environ, [file])
    assert (got.lost_after, got.max_retries, got.grant_ttl, got.reserve_after) == (20.0, 2, 4.0, 4.0)
    assert got.log_max == 2 << 20
    assert got.heartbeat == 2.0


def test_config_names_another_file_and_that_must_exist(tmp_path: Path):
    file = tmp_path / "own.toml"
    file.write_text("max_retries = 7\n")
    other = tmp_path / "master.toml"
    other.write_text("max_retries = 8\n")
    assert config.load(MasterConfig, ["--config", str(file)], {}, [other]).max_retries == 7
    assert config.load(MasterConfig, [], {"FFRTMP_MASTER_CONFIG": str(file)}, [other]).max_retries == 7
    with pytest.raises(FarmError, match="cannot be read") as caught:
        config.load(MasterConfig, ["--config", str(tmp_path / "absent.toml")], {}, [])
    assert caught.value.code is Exit.CONFIG


def test_a_default_file_that_is_absent_is_no_error_and_its_dropins_are_still_read(tmp_path: Path):
    file = tmp_path / "master.toml"
    assert config.load(MasterConfig, [], {}, [file]) == MasterConfig()
    Path(f"{file}.d").mkdir()
    (Path(f"{file}.d") / "only.toml").write_text("max_retries = 5\n")
    assert config.load(MasterConfig, [], {}, [file]).max_retries == 5


def test_an_unknown_key_is_an_error_with_its_line_and_the_nearest_name(tmp_path: Path):
    file = tmp_path / "master.toml"
    file.write_text('# times\n\nlost_afer = "20s"\n')
    with pytest.raises(FarmError) as caught:
        config.load(MasterConfig, [], {}, [file])
    assert caught.value.what == f"{file}:3: lost_afer: there is no such setting"
    assert caught.value.hint == 'did you mean "lost_after"?'
    assert caught.value.code is Exit.CONFIG


def test_an_unknown_variable_of_the_program_is_an_error_and_another_program_s_is_not():
    assert config.load(MasterConfig, [], {"FFRTMP_AGENT_CPU": "2", "FFRTMP_MASTER": "unix:/x"}, []) == MasterConfig()
    with pytest.raises(FarmError, match="FFRTMP_MASTER_MAX_RETRY in the environment: there is no such setting"):
        config.load(MasterConfig, [], {"FFRTMP_MASTER_MAX_RETRY": "2"}, [])


def test_an_unknown_flag_ends_with_status_2(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        config.load(MasterConfig, ["--lost-afte", "3s"], {}, [])
    assert caught.value.code == 2
    assert "--lost-afte" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('lost_after = "soon"', "lost_after: .soon. is not a length of time; write it as 15s"),
        ("lost_after = true", "a number is wanted"),
        ("lost_after = nan", "out of bounds"),
        ("log_max = '12 apples'", "is not a size"),
        ("max_retries = 1.5", "not a whole number"),
        ("max_retries = 101", "101 is out of bounds, 0 to 100 are possible"),
        ("log_level = 'inof'", "none of debug, info, warning, error; did you mean .info."),
        ("hub = 'localhost:8081'", "not of the form tcp://HOST:PORT"),
        ("debug = 'perhaps'", "neither yes nor no"),
        ("scenarios = 3", "a list is wanted"),
        ("socket = ''", "a path is wanted"),
        ("socket = 3", "text is wanted"),
        ("lost_after = ", "is not TOML: .*line 1"),
    ],
)
def test_a_wrong_value_is_said_with_file_line_and_what_is_possible(tmp_path: Path, line: str, words: str):
    file = tmp_path / "master.toml"
    file.write_text(f"{line}\n")
    with pytest.raises(FarmError, match=words) as caught:
        config.load(MasterConfig, [], {}, [file])
    assert str(file) in caught.value.what
    assert caught.value.code is Exit.CONFIG


def test_a_wrong_flag_s_value_names_the_flag_and_is_a_usage_error():
    with pytest.raises(FarmError, match="--lost-after: ") as caught:
        config.load(MasterConfig, ["--lost-after", "soon"], {}, [])
    assert caught.value.code is Exit.USAGE
    assert "silence" in caught.value.hint


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--lost-after", "1s", "--heartbeat", "2s"], "lost_after must be longer than heartbeat"),
        (["--lost-after-live", "1s"], "lost_after_live must be longer"),
        (["--reconnect-grace", "5s"], "reconnect_grace must not be shorter than grant_ttl"),
    ],
)
def test_times_that_contradict_each_other_are_refused(argv: list[str], words: str):
    with pytest.raises(FarmError, match=words):
        config.load(MasterConfig, argv, {}, [])


def test_a_reload_gives_a_whole_new_configuration_or_raises(tmp_path: Path):
    file = tmp_path / "master.toml"
    file.write_text("max_retries = 1\n")
    origin = config.source(MasterConfig, {"grant_ttl": "3s"}, {}, [file])
    before = origin.load()
    file.write_text('max_retries = 9\nlost_after = "never"\n')
    with pytest.raises(FarmError):
        origin.load()
    assert before.max_retries == 1
    file.write_text("max_retries = 9\n")
    after = origin.load()
    assert (after.max_retries, after.grant_ttl) == (9, 3.0)
    assert config.differences(before, after) == ("max_retries",)


def test_media_roots_come_from_flags_tables_and_dropins_together(tmp_path: Path):
    file = tmp_path / "agent.toml"
    file.write_text('[media_roots]\nfilms = "/srv/films:ro"\n[media_roots.out]\npath = "/srv/out"\nread = false\n')
    dropins = tmp_path / "agent.toml.d"
    dropins.mkdir()
    (dropins / "more.toml").write_text('media_roots.more = {path = "/srv/more", write = false}\n')
    got = config.load(AgentConfig, ["--media-root", "demo=/srv/demo", "--media-root", "films=/srv/f2"], {}, [file])
    assert got.media_roots == {
        "films": MediaRoot(Path("/srv/f2")),
        "out": MediaRoot(Path("/srv/out"), read=False),
        "more": MediaRoot(Path("/srv/more"), write=False),
        "demo": MediaRoot(Path("/srv/demo")),
    }
    given = {"FFRTMP_AGENT_MEDIA_ROOTS": "a=/srv/a,b=/srv/b:ro"}
    assert config.load(AgentConfig, [], given, []).media_roots["b"] == MediaRoot(Path("/srv/b"), write=False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[media_roots.a]\npath = "/a"\nraed = true\n', '"a" has the unknown key "raed"; did you mean "read"'),
        ('[media_roots.a]\npath = "a"\n', "wants an absolute path"),
        ("[media_roots.a]\nread = true\n", "wants an absolute path"),
        ('[media_roots.a]\npath = "/a"\nread = "yes"\n', "true or false"),
        ('[media_roots]\n"A b" = "/a"\n', "cannot name a media root"),
        ('[media_roots]\na = "/x"\nb = "/x"\n', "are the same folder"),
        ("media_roots = 3\n", "a list is wanted"),
        ('media_roots = "films"\n', "not of the form NAME=VALUE"),
    ],
)
def test_a_wrong_media_root_is_refused_in_words(tmp_path: Path, content: str, words: str):
    file = tmp_path / "agent.toml"
    file.write_text(content)
    with pytest.raises(FarmError, match=words):
        config.load(AgentConfig, [], {}, [file])


def test_switches_and_lists_read_alike_everywhere(tmp_path: Path):
    file = tmp_path / "agent.toml"
    file.write_text('allow_run = true\nlabels = ["gpu", "fast"]\nprotocols = ["file"]\n')
    got = config.load(AgentConfig, ["--no-allow-run", "--label", "a", "--label", "b,c"], {}, [file])
    assert (got.allow_run, got.labels, got.protocols) == (False, ("a", "b", "c"), ("file",))
    got = config.load(AgentConfig, [], {"FFRTMP_AGENT_REGISTER": "yes", "FFRTMP_AGENT_LABELS": "x, y"}, [file])
    assert (got.register, got.labels, got.allow_run) == (True, ("x", "y"), True)


@pytest.mark.parametrize("program", [MasterConfig, AgentConfig])
def test_every_setting_has_a_flag_a_variable_and_an_explained_default(program: type[config.Config]):
    known = config.settings(program)
    assert set(known) == {name for name in program.__struct_fields__}
    shown = config.build_parser(program, "ffrtmp-x").format_help()
    for name, setting in known.items():
        assert config.flag_of(name, setting) in shown
        assert config.variable_of(program, name) in shown
        default = config.defaults(program)[name]
        if default is not None and default != "":
            assert setting.read(setting.show(default)) == default


def test_lengths_of_time_and_sizes_read_as_people_mean_them():
    assert [parse_duration_s(text) for text in ("15s", "6h", "1h 30min", "250ms", "2", "1.5d")] == [
        15.0,
        21600.0,
        5400.0,
        0.25,
        2.0,
        129600.0,
    ]
    assert [parse_size_bytes(text) for text in ("16MiB", "2G", "2GB", "1k", "77", "1.5 MiB")] == [
        16 << 20,
        2 << 30,
        2_000_000_000,
        1024,
        77,
        1_572_864,
    ]
    for wrong in ("", "s", "-3s", "3 parsecs", "6h!"):
        with pytest.raises(ValueError, match="length of time"):
            parse_duration_s(wrong)
    for wrong in ("", "MiB", "-1", "3 MiB x", "3XB"):
        with pytest.raises(ValueError, match="size"):
            parse_size_bytes(wrong)
    assert (format_duration(21600.0), format_duration(0.5), format_size(16 << 20)) == ("6h", "0.5s", "16MiB")
