"""Options from a file and from variables: which one counts, and what is said of a wrong one."""

import os
from pathlib import Path

import pytest
import typer

from mindsd.app.cli import app
from mindsd.app.command_tree import options_of, walk
from mindsd.app.settings import name_variables
from mindsd.errors import RequestError


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """An empty folder to run in, no variables, and a home with no file of its own."""
    for name in [name for name in os.environ if name.startswith("MINDSD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def own(tmp_path):
    """The place of one's own file."""
    file = tmp_path / "home" / "mindsd" / "config.toml"
    file.parent.mkdir(parents=True)
    return file


@pytest.fixture
def asked(mindsd, monkeypatch):
    """What `bench` would measure, as a command line has it."""

    def ask(*arguments, before=()):
        def keep(**options):
            kept.update(options)
            raise RequestError("kept")

        kept = {}
        monkeypatch.setattr("mindsd.app.commands.bench.Trial", keep)
        run = mindsd(*before, "bench", *arguments)
        assert run.code == 2 and run.err.startswith("mindsd: kept"), run.err
        return kept

    return ask


@pytest.fixture
def shown(mindsd):
    """What `config show` says of a command's options: option -> (value, where it is from)."""

    def show(*command, before=()):
        run = mindsd(*before, "config", "show", *command, "--json")
        assert run.code == 0, run.err
        return {each["option"]: (each["value"], each["origin"]) for each in run.events}

    return show


def write(text, file="mindsd.toml"):
    Path(file).write_text(text, encoding="utf-8")
    return file


def test_what_is_said_then_variables_then_the_file(asked, shown, monkeypatch):
    write("[all]\nsteps = 1\nsize = 8\nimages = 5\nrounds = 6\n[bench]\nsteps = 2\nbatch = 7\n")
    monkeypatch.setenv("MINDSD_IMAGES", "3")
    monkeypatch.setenv("MINDSD_BENCH_STEPS", "4")
    monkeypatch.setenv("MINDSD_STEPS", "3")
    monkeypatch.setenv("MINDSD_DTYPE", "")  # as if it were not there
    options = asked("--batch", 9)
    names = ("steps", "images", "size", "batch", "rounds", "dtype", "model")
    assert [options[name] for name in names] == [4, 3, "8", 9, 6, "auto", "tiny-sd"]
    told = shown("bench")
    assert told["steps"] == (4, "MINDSD_BENCH_STEPS") and told["images"] == (3, "MINDSD_IMAGES")
    assert told["batch"] == (7, "mindsd.toml") and told["dtype"] == ("auto", "default")
    assert shown("tune")["steps"] == (3, "MINDSD_STEPS")


def test_every_option_is_taken_from_where_it_is_shown_to_be(asked, shown, monkeypatch):
    """What is shown is what a command gets: for defaults, a file and variables alike."""
    write("[bench]\nimages = 4\njson = true\n")
    monkeypatch.setenv("MINDSD_BENCH_JSON", "0")
    options, told = asked(), shown("bench")
    assert told["json"] == (False, "MINDSD_BENCH_JSON")
    assert {name: told[name][0] for name in options} == options


def test_names_with_dashes_or_underscores_lists_and_home(shown):
    write(
        "[chat]\nmax_tokens = 3\ntop-p = 0.5\nimage = ['~/a.png', 'b.png']\n[complete]\nstop='x'\n"
    )
    told = shown("chat")
    assert told["max-tokens"][0] == 3 and told["top-p"][0] == 0.5
    assert told["image"] == ([os.path.expanduser("~/a.png"), "b.png"], "mindsd.toml")
    assert shown("complete")["stop"] == (["x"], "mindsd.toml")


def test_lists_in_variables(shown, monkeypatch):
    monkeypatch.setenv("MINDSD_CHAT_IMAGE", os.pathsep.join(["a b.png", "c.png"]))
    monkeypatch.setenv("MINDSD_COMPLETE_STOP", "one two")
    assert shown("chat")["image"] == (["a b.png", "c.png"], "MINDSD_CHAT_IMAGE")
    assert shown("complete")["stop"] == (["one", "two"], "MINDSD_COMPLETE_STOP")


def test_which_file_is_used(asked, mindsd, own, monkeypatch):
    assert asked()["batch"] == 4
    write("[bench]\nbatch = 1\n", own)
    assert asked()["batch"] == 1
    write("[bench]\nbatch = 2\n")
    assert asked()["batch"] == 2
    assert mindsd("config", "path").lines == [
        "mindsd.toml  (used)",
        f"{own}  (passed over: the first one counts)",
    ]
    monkeypatch.setenv("MINDSD_CONFIG", write("[bench]\nbatch = 3\n", "third.toml"))
    assert asked()["batch"] == 3
    write("[bench]\nbatch = 5\n", "said.toml")
    assert asked(before=("--config", "said.toml"))["batch"] == 5
    assert asked(before=("--config", os.devnull))["batch"] == 4
    assert mindsd("config", "path").lines == ["third.toml  (used)"]
    monkeypatch.setenv("MINDSD_CONFIG", "nowhere.toml")
    assert mindsd("config", "path").lines == ["nowhere.toml  (not there)"]


def test_what_is_shown_is_a_file_that_says_the_same(mindsd, shown, monkeypatch):
    write('[all]\ndevice = "cpu"\n[chat]\nsystem = "Say \\"é\\".\\n"\nimage = ["a", "b"]\n')
    monkeypatch.setenv("MINDSD_STEPS", "2")
    page = mindsd("config", "show").out
    assert "# dtype = " in page and "steps = 2 " in page and "# MINDSD_STEPS" in page
    before = {command: shown(command) for command in ("bench", "chat", "complete")}
    monkeypatch.delenv("MINDSD_STEPS")
    write(page)
    for command, told in before.items():
        after = shown(command)
        assert {n: v for n, (v, _) in after.items()} == {n: v for n, (v, _) in told.items()}
        assert {n for n, (_, w) in after.items() if w == "default"} == {
            n for n, (_, where) in told.items() if where == "default"
        }


def test_a_secret_is_not_shown(mindsd, shown, monkeypatch):
    monkeypatch.setattr("mindsd.app.settings.SECRET", ("size",))
    monkeypatch.setenv("MINDSD_SIZE", "64x64")
    assert shown("bench")["size"] == ("****", "MINDSD_SIZE")
    page = mindsd("config", "show", "bench").out
    assert "64x64" not in page and '# size = "****" ' in page


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[bench\n", "the config file mindsd.toml is not TOML: Expected ']'"),
        ("[bench]\nstpes = 1", "mindsd.toml: bench.stpes is unknown; did you mean steps?"),
        ("[bench]\nzzzz = 1", "mindsd.toml: bench.zzzz is unknown; see mindsd bench --help"),
        ("[bnech]\nsteps = 1", "mindsd.toml: bnech is unknown; did you mean bench?"),
        ("[config]\njson = true", "config is unknown; see mindsd --help"),
        ("[all]\ndevcie = 'cpu'", "all.devcie is unknown; did you mean device?"),
        ("[all]\nzzzz = 'cpu'", "all.zzzz is unknown; no command has it"),
        ("all = 1", "all is a table: write [all]"),
        ("steps = 1", "steps stands in no table; put it below [all] or a command's"),
        ("bench = 1", "bench is a command: write [bench] and its options below"),
        ("[[bench]]\nsteps = 1", "bench is a command: write [bench]"),
        ("[generate]\nquiet = 'yes'", "generate.quiet must be true or false, not 'yes'"),
        ("[tune]\nsteps = true", "tune.steps must be a text or a number, not true"),
        ("[tune]\nsteps = [1]", "tune.steps must be a text or a number, not a list"),
        ("[chat]\nimage = [[1]]", "chat.image must be a text or a number, not a list"),
        ("[tune.steps]\na = 1", "tune.steps must be a text or a number, not a table"),
        ("[tune]\nsize = 1979-05-27", "tune.size must be a text or a number, not 1979-05-27"),
        ("[bench]\nsteps = 'two'", "valid integer"),
        ("[bench]\nsteps = 'two'", "(--steps is set by mindsd.toml)"),
        ("[bench]\nsteps = 2.5", "(--steps is set by mindsd.toml)"),
        ("[bench]\nsteps = 0", "(where not said, --steps is set by mindsd.toml)"),
    ],
)
def test_mistakes_in_a_file(text, words, mindsd):
    write(text)
    run = mindsd("bench")
    assert (run.code, run.out, len(run.err.splitlines())) == (2, "", 1) and words in run.err


def test_mistakes_in_variables_and_of_names(mindsd, monkeypatch):
    monkeypatch.setenv("MINDSD_STEPS", "0")
    run = mindsd("bench")
    assert run.code == 2 and "(where not said, --steps is set by MINDSD_STEPS)" in run.err
    monkeypatch.setenv("MINDSD_STEPS", "two")
    for command in (("bench",), ("config", "show", "bench")):
        run = mindsd(*command)
        assert run.code == 2 and "(--steps is set by MINDSD_STEPS)" in run.err
    run = mindsd("config", "show", "bnech")
    assert run.code == 2 and "no command 'bnech' has options; there is bench" in run.err
    run = mindsd("bench", "--config", "a.toml")
    assert run.code == 2 and "it stands before the command: mindsd --config FILE" in run.err


def test_files_that_cannot_be_read(mindsd, tmp_path):
    Path("binary.toml").write_bytes(b"\xff\xfe")
    for file, words in {
        "nowhere.toml": "nowhere.toml cannot be read (No such file or directory)",
        str(tmp_path): "cannot be read (Is a directory)",
        "binary.toml": "binary.toml is not UTF-8 text",
    }.items():
        run = mindsd("--config", file, "bench")
        assert run.code == 2 and words in run.err


def test_a_strangers_file_is_used_only_if_named(asked, mindsd, monkeypatch):
    write("[bench]\nbatch = 2\n")
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    monkeypatch.setattr("mindsd.app.config_file.TRUSTED", ())
    run = mindsd("bench")
    assert run.code == 2 and "belongs to another user" in run.err
    assert "another user's: refused" in mindsd("config", "path").lines[0]
    assert asked(before=("--config", "mindsd.toml"))["batch"] == 2


def test_a_file_that_is_wrong_still_lets_one_look(mindsd):
    write("[bench\n")
    assert mindsd("--help").code == 0
    assert mindsd("config", "path").lines[0] == "mindsd.toml  (used)"


def test_no_two_options_share_a_variable_by_accident():
    """Those of one name do, on purpose; MINDSD_PORT, which Kubernetes sets, is nobody's."""
    root = typer.main.get_command(app)
    name_variables(root)
    owners = {}
    for _, command in walk(root):
        for name, option in options_of(command).items():
            for variable in option.envvar or ():
                owners.setdefault(variable, set()).add(name)
    assert all(len(names) == 1 for names in owners.values())
    assert "MINDSD_PORT" not in owners and "MINDSD_CONFIG" not in owners
    assert {"MINDSD_DEVICE", "MINDSD_GENERATE_STEPS", "MINDSD_BENCH_JSON"} <= set(owners)


def test_a_file_of_the_folder_does_not_open_a_server_unless_it_is_named(mindsd, shown):
    write('[serve]\nport = 1\nhost = "0.0.0.0"\n')
    run = mindsd("serve")
    assert run.code == 2 and "serve.host lets others in" in run.err and "--config" in run.err
    assert mindsd("config", "show", "serve").code == 2
    named = shown("serve", before=("--config", "mindsd.toml"))
    assert named["host"] == ("0.0.0.0", "mindsd.toml")
    assert named["port"] == (1, "mindsd.toml")


def test_ones_own_file_may_open_it(own, shown):
    write('[serve]\nhost = "0.0.0.0"\n', own)
    assert shown("serve")["host"][0] == "0.0.0.0"


def test_a_variable_that_is_no_options_is_told(mindsd, monkeypatch):
    monkeypatch.setenv("MINDSD_GENERATE_STPES", "3")
    monkeypatch.setenv("MINDSD_BENCH_SERVE_ZZZ", "3")
    for name in ("PORT", "CACHE", "NATIVE", "KILLS", "SERVE_SERVICE_HOST", "SERVE_PORT_80_TCP"):
        monkeypatch.setenv(f"MINDSD_{name}", "3")
    monkeypatch.setenv("MINDSD_GENERATE_SEED", "3")
    run = mindsd("config", "path")
    assert run.code == 0 and run.err.splitlines() == [
        "mindsd: the variable MINDSD_BENCH_SERVE_ZZZ sets nothing; see mindsd bench serve --help",
        "mindsd: the variable MINDSD_GENERATE_STPES sets nothing; "
        "did you mean MINDSD_GENERATE_STEPS?",
    ]
