"""The tree keeps the conventions that docs/design.md promises: floors, lazy rooms, documented verbs."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "sphisto"
HEAVY = {"anndata", "dask", "lightning", "matplotlib", "pandas", "scanpy", "skimage", "sklearn", "spatialdata"}
HEAVY |= {"torch", "xarray", "zarr"}
ROOMS = ["config", "datasets", "get", "io", "pl", "pp", "tl"]
# the data, and what may be said without its name after it because the verb has no meaning without it
POSITIONAL = {"data", "fixed", "genes", "name", "path", "regions", "store"}
DISTRIBUTIONS = {
    "openslide-python": "openslide",
    "pillow": "PIL",
    "pytorch-msssim": "pytorch_msssim",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}


def public() -> list[str]:
    rooms = {room: importlib.import_module(f"sphisto.{room}") for room in ROOMS}
    return [f"{room}.{name}" for room, module in rooms.items() for name in module.__all__]


def verbs() -> list[str]:
    return [name for name in public() if not name.split(".")[1][0].isupper()]  # all but nouns such as io.Section


def function(verb: str):
    room, name = verb.split(".")
    return getattr(importlib.import_module(f"sphisto.{room}"), name)


def section_of(text: str, title: str) -> list[str]:
    """Lines of one section of a numpy docstring."""
    lines = text.splitlines()
    starts = [i for i, below in enumerate(lines[1:]) if re.fullmatch("-{3,}", below)]
    for start, end in itertools.pairwise([*starts, len(lines)]):
        if lines[start].strip() == title:
            return lines[start + 2 : end]
    return []


def parameters_described(documented) -> dict[str, str]:
    """Text of each parameter in a numpy docstring."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section_of(inspect.getdoc(documented) or "", "Parameters"):
        if line and not line[0].isspace():
            names = [name.strip() for name in line.partition(" : ")[0].split(",")]
            found |= dict.fromkeys(names, "")
        else:
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return found


def loaded_by(code: str) -> set[str]:
    """Top-level packages in sys.modules of a new Python that ran some code."""
    code += "\nimport sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


# ---- light imports


def test_import_of_the_package_loads_nothing_heavy():
    assert not loaded_by("import sphisto") & (HEAVY | {"numpy", "scipy"})


def test_rooms_and_their_verbs_import_without_heavy_libraries():
    # tl holds the network; whoever names a verb of it is about to use torch
    code = "import sphisto\n" + "\n".join(f"sphisto.{verb}" for verb in verbs() if not verb.startswith("tl."))
    assert not loaded_by(code) & (HEAVY - {"skimage"})


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        *(
            [name, "--help"]
            for name in (
                "demo",
                "check",
                "fit",
                "evaluate",
                "predict",
                "aggregate",
                "info",
                "export",
                "report",
                "upgrade",
            )
        ),
        ["--version"],
    ],
)
def test_command_line_answers_without_heavy_libraries(words):
    code = f"from sphisto import cli\ntry:\n    cli.main({words})\nexcept SystemExit:\n    pass"
    assert not loaded_by(code) & (HEAVY | {"numpy", "scipy"})


def test_unknown_names_are_answered_with_the_known_ones():
    import sphisto

    with pytest.raises(
        AttributeError, match="has no attribute 'qc'. It offers: config, datasets, get, io, pl, pp, settings, tl"
    ):
        _ = sphisto.qc
    with pytest.raises(AttributeError, match="has no attribute 'normalise'. It offers: .*normalize"):
        _ = sphisto.pp.normalise


def test_dir_lists_what_can_be_used():
    import sphisto

    assert {*ROOMS, "settings"} <= set(dir(sphisto))
    assert "fit_projection" in dir(sphisto.tl)


# ---- verbs


@pytest.mark.parametrize("verb", verbs())
def test_verb_is_documented(verb):
    text = inspect.getdoc(function(verb)) or ""
    sections = {line for line, rule in itertools.pairwise(text.splitlines()) if re.fullmatch("-{3,}", rule)}
    assert {"Parameters", "Examples"} <= sections, f"{verb}: has the sections {sorted(sections)}"
    assert sections & {"Returns", "Writes"}, f"{verb}: says neither what it returns nor what it writes"
    assert re.match(r"[A-Z][^\n]*\.\n", text + "\n"), f"{verb}: begins with something else than one sentence on a line"


@pytest.mark.parametrize("verb", verbs())
def test_every_parameter_of_a_verb_is_described(verb):
    described = parameters_described(function(verb))
    names = [name for name, p in inspect.signature(function(verb)).parameters.items() if p.kind is not p.VAR_KEYWORD]
    assert [name for name in names if not described.get(name)] == []
    assert [name for name in described if name.lstrip("*") not in inspect.signature(function(verb)).parameters] == []


@pytest.mark.parametrize("verb", verbs())
def test_verb_takes_keywords_after_its_data(verb):
    first, *others = inspect.signature(function(verb)).parameters.values()
    assert first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD)
    positional = [p.name for p in others if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    allowed = POSITIONAL | ({"width"} if verb == "datasets.toy" else set())
    assert set(positional) <= allowed, f"{verb}: {positional}"
    assert len(positional) <= 1, f"{verb}: {positional}"
    mutable = [p.name for p in others if isinstance(p.default, list | dict | set)]
    assert mutable == [], f"{verb}: defaults that one call could change for the next"


@pytest.mark.parametrize("verb", verbs())
def test_verb_is_fully_annotated(verb):
    signature = inspect.signature(function(verb))
    assert [p.name for p in signature.parameters.values() if p.annotation is p.empty] == []
    assert signature.return_annotation is not signature.empty


def test_api_pages_list_exactly_the_public_verbs():
    listed = {}
    for room in ROOMS:
        text = (ROOT / "docs" / "api" / f"{room}.md").read_text()
        listed[room] = set(re.findall(rf"^   ({room}\.\w+)$", text, flags=re.MULTILINE))
    assert listed == {room: {name for name in public() if name.startswith(f"{room}.")} for room in ROOMS}


# ---- floors


def modules() -> dict[str, Path]:
    def name(path: Path) -> str:
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    return {name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_of(path: Path, *, for_types: bool = False) -> set[str]:
    """Every module that a file imports, inside functions too; plus its names, for packages."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
        waiting += node.orelse if is_typing_only(node) and not for_types else list(ast.iter_child_nodes(node))
    return found


def own_imports(path: Path) -> set[str]:
    """Modules of sphisto that a file imports, be it for types only: the deepest that exist."""
    known = modules()
    found = {name for name in imports_of(path, for_types=True) if name in known}
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


# bottom first; a room imports from lower floors only, and what a user calls knows of each other what is allowed here
FLOORS = [
    {"core"},
    {"slide"},
    {"features", "genes"},
    {"field"},
    {"config"},
    {"scoring", "networks", "io"},
    {"predict"},
    {"train"},
    {"get", "datasets", "pp"},
    {"pl", "tl"},
    {"cli", "_demo"},
]
TORCH = {"networks", "predict", "train"}
ROOM_WITHOUT_TORCH = {"pl", "pp", "get", "datasets"}


def lower(room: str) -> set[str]:
    """Rooms that a room may import from, its own among them."""
    floor = next(i for i, rooms in enumerate(FLOORS) if room in rooms)
    below = set().union(*FLOORS[:floor]) | {room}
    return below - TORCH if room in ROOM_WITHOUT_TORCH else below


@pytest.mark.parametrize("room", sorted(set().union(*FLOORS) - {"cli", "_demo"}))
def test_imports_go_down_only(room):
    rooms = set().union(*FLOORS)
    wrong = {
        f"{name} imports {other}"
        for name, path in modules().items()
        if room_of(name) == room
        for other in own_imports(path)
        if room_of(other) in rooms - lower(room)
    }
    assert not wrong


def test_every_room_is_on_a_floor():
    rooms = {room_of(name) for name, path in modules().items() if path.name == "__init__.py"} - {""}
    assert rooms <= set().union(*FLOORS)


def drawn() -> str:
    """Who imports whom, for types too: a row for each package, a mark where it uses the column's."""
    order = [room for floor in FLOORS for room in sorted(floor) if room != "_demo"]
    uses: dict[str, set[str]] = {room: set() for room in order}
    for name, path in modules().items():
        if room_of(name) in uses:
            uses[room_of(name)] |= {room_of(other) for other in own_imports(path)}
    rows = [" " * 9 + "  ".join(order)]
    for room in order[1:]:
        below = order[: order.index(room)]
        marks = ("x".center(len(other)) if other in uses[room] else " " * len(other) for other in below)
        rows.append(f"{room:<9}{'  '.join(marks)}".rstrip())
    return "\n".join(rows)


def test_the_design_page_draws_the_imports_of_today():
    found = re.search(r"```text\n( +core .*?)```", (ROOT / "docs" / "design.md").read_text(), re.DOTALL)
    assert found, "docs/design.md has no drawing of imports"
    assert found[1].rstrip() == drawn(), f"Put this into docs/design.md:\n{drawn()}"


def test_the_design_page_names_the_modules_of_each_package():
    found = re.search(r"```text\n(train +settings.*?)```", (ROOT / "docs" / "design.md").read_text(), re.DOTALL)
    assert found, "docs/design.md lists no modules"
    listed = {room: set(names) for room, *names in map(str.split, found[1].splitlines())}
    assert listed == {room: {path.stem for path in (SOURCE / room).glob("[!_]*.py")} for room in listed}


def test_words_that_only_we_would_understand_stay_out():
    """Names, messages and docstrings are in the field's words."""
    private = re.compile(r"\b(told|looked at|speaks|says it|is said)\b")
    found = {name: private.findall(path.read_text()) for name, path in modules().items()}
    assert {name: words for name, words in found.items() if words} == {}


STORES = {"zarr", "spatialdata", "ome_zarr", "h5py", "tifffile", "PIL", "openslide", "imagecodecs"}


def test_only_io_reads_and_writes_files_and_stores():
    """Elements of a SpatialData are told by their types elsewhere; nothing is opened there."""
    found = {name: third_party(path) & STORES for name, path in modules().items() if room_of(name) != "io"}
    assert {name: tops for name, tops in found.items() if tops} == {}


def test_private_names_stay_in_their_room():
    def taken(name: str, path: Path) -> list[str]:
        return [
            f"{name} imports {alias.name} of {node.module}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sphisto.")
            for alias in node.names
            if alias.name.startswith("_") and room_of(str(node.module)) != room_of(name)
        ]

    assert [line for name, path in modules().items() for line in taken(name, path)] == []


def test_a_warning_names_what_mends_it():
    """A parameter, setting, column or file, between backquotes or with its value, in the warning or beside it."""

    def texts(node: ast.AST) -> str:
        found = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))
        return " ".join(found)

    def unhelpful(path: Path) -> list[str]:
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        return [
            texts(call)
            for function in functions
            for call in ast.walk(function)
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("logger.warning", "warnings.warn")
            if not re.search("[`=]", texts(call) if len(texts(call)) > 60 else texts(function))
        ]

    # the variable is what is named; cells, and what errors say too, have texts of their own elsewhere
    known = {"The variable %s is passed over. %s", "%s"}
    found = {text for path in modules().values() for text in unhelpful(path)} - known
    assert {text for text in found if not text.endswith("If they are cells: %s")} == set()


def third_party(path: Path) -> set[str]:
    tops = {name.partition(".")[0] for name in imports_of(path)}
    return tops - set(sys.stdlib_module_names) - {"sphisto"}


def test_core_needs_numpy_and_scipy_only():
    found = {name: third_party(path) for name, path in modules().items() if room_of(name) == "core"}
    assert {name: tops for name, tops in found.items() if tops - {"numpy", "scipy"}} == {}


@pytest.mark.parametrize("library", ["torch", "lightning", "pytorch_msssim"])
def test_only_what_trains_and_predicts_knows_torch(library):
    assert [n for n, path in modules().items() if library in third_party(path) and room_of(n) not in TORCH] == []


def test_no_circle_of_imports():
    graph = {name: own_imports(path) for name, path in modules().items()}
    # a package whose __init__ is lazy imports none of its modules; reaching a module runs the __init__ above it
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name in done:
            return
        for other in sorted(graph[name]):
            visit(other, (*way, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_every_library_in_use_is_declared():
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*about["dependencies"], *itertools.chain(*about["optional-dependencies"].values())]
    names = [re.split(r"[<>=!~\[; ]", line)[0] for line in lines]
    declared = {DISTRIBUTIONS.get(name, name) for name in names}
    used = {top for path in modules().values() for top in third_party(path)}
    assert used - declared == set()
    # igraph is used through scanpy, openslide-bin through openslide
    assert declared - used == {"igraph", "openslide-bin"}


@pytest.mark.parametrize(
    ("constraints", "groups"),
    [
        ("constraints.txt", ["test", "docs", "standards"]),
        ("constraints-newest.txt", ["test", "docs", "standards", "interop"]),
        ("constraints-lowest.txt", ["test"]),
    ],
)
def test_every_dependency_is_locked_within_its_bounds(constraints, groups):
    from packaging.requirements import Requirement

    about = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [line for line in (ROOT / constraints).read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "a pin that is not NAME==VERSION"
    locked = {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}
    asked = [line for group in groups for line in about["dependency-groups"][group] if isinstance(line, str)]
    for wanted in map(Requirement, [*about["project"]["dependencies"], *asked]):
        assert locked[wanted.name.lower()] in wanted.specifier, wanted


def test_versions_agree():
    import sphisto

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert sphisto.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
