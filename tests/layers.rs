//! The layers of `src` as its imports have them: no arrow goes up, and no modules form a circle.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate, from the lowest layer to the highest. One may import from every layer below its own, and
/// from its own as long as that makes no circle.
const LAYERS: &[&[&str]] = &[
    // The leaves.
    &["error", "limits", "topology", "first_error", "event", "policy", "config"],
    &["sys", "reactor"],
    &["cgroup", "image", "keeper", "net", "process", "pump", "runsc", "volume"],
    &["egress", "tunnel"],
    &["engine"],
    &["sandbox"],
    &["runtime", "build"],
    &["doctor"],
    &["ffi"],
    // Not in a library that is built.
    &["fuzz"],
];

/// The circles that files form, each with its reason. A star stands for every file directly in a module.
const CIRCLES: &[(&[&str], &str)] = &[
    (
        &["config", "config::*"],
        "the type of all settings has the type of each, and each file has its setters",
    ),
    (&["policy", "policy::names"], "the same for the settings of names"),
    (&["sandbox::lifecycle", "sandbox::lifecycle::exit_snapshot"], "the same for a state of the lifecycle"),
    (
        &["sandbox::driver", "sandbox::driver::warm"],
        "the same for what a driver knows of a member of the pool",
    ),
    (
        &["runtime::control", "runtime::control::claims", "runtime::control::creation"],
        "the same for what the control thread knows of a creation that waits for a member",
    ),
    (
        &[
            "sandbox",
            "sandbox::control",
            "sandbox::gateway",
            "sandbox::policy_update",
            "sandbox::stats",
            "sandbox::files::operation",
            "sandbox::files::pump",
            "sandbox::files::task",
        ],
        "a command to the control thread holds the work to be done, and where that work is made it is sent",
    ),
    (
        &["image::archive", "image::archive::docker", "image::archive::layout"],
        "each format fills in the image that an import continues with",
    ),
    (
        &[
            "image::handle",
            "image::service",
            "image::import",
            "image::pull",
            "image::snapshot",
            "image::transfer",
            "image::workshop",
        ],
        "the service begins each operation, whose thread works with the service",
    ),
    (
        &[
            "image::registry::buffered",
            "image::registry::dial",
            "image::registry::pool",
            "image::registry::response",
        ],
        "a response that was read to its end gives its connection back to the pool, which dialling takes it from",
    ),
    (
        &[
            "ffi::operation",
            "ffi::config",
            "ffi::image",
            "ffi::runtime",
            "ffi::sandbox",
            "ffi::stats",
            "ffi::volume",
        ],
        "an operation is one C object with the results of all, and each object begins its own",
    ),
];

/// A module's path below the crate, and its text.
type Source = (Vec<String>, String);

/// From which module to which, with the files where that stands.
type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Every file of the library. The keeper's program is a crate of its own.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut sources, mut directories) = (Vec::new(), vec![root.clone()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path != root.join("keeper/program") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                sources.push((module_of(path.strip_prefix(&root).unwrap().to_owned()), text));
            }
        }
    }
    sources.retain(|(module, _)| !module.is_empty());
    sources
}

fn module_of(mut path: PathBuf) -> Vec<String> {
    path.set_extension("");
    if path.ends_with("mod") || path == Path::new("lib") {
        path.pop();
    }
    path.iter().map(|part| part.to_str().unwrap().to_owned()).collect()
}

/// The lines that are compiled without tests, without comments, and the modules that are there for tests alone. Goes by
/// rustfmt's layout: an item begins and ends at the same column.
fn without_tests(text: &str) -> (String, Vec<String>) {
    let (mut kept, mut test_modules) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line.split("//").next().unwrap_or_default());
            kept.push('\n');
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let mut item = lines.next().unwrap_or_default();
        while item.trim().starts_with("#[") {
            item = lines.next().unwrap_or_default();
        }
        if let Some(name) = item.strip_suffix(';').and_then(|item| item.rsplit_once("mod ")) {
            test_modules.push(name.1.to_owned());
        } else if !item.ends_with([';', ',']) {
            let ends = |line: &str| line.trim_end_matches([',', ';']) == format!("{indent}}}");
            lines.by_ref().find(|line| ends(line));
        }
    }
    (kept, test_modules)
}

/// The first names of what stands behind a path's start: of `a::b` it is `a`, of `{a::b, c}` they are `a` and `c`.
fn first_names(behind: &str) -> Vec<String> {
    paths(behind).into_iter().filter_map(|path| path.into_iter().next()).collect()
}

/// The names directly below the crate that a module's text takes something from.
fn imports(module: &[String], text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for start in ["crate::", &"super::".repeat(module.len())] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':')) {
                names.extend(first_names(&text[at + start.len()..]));
            }
        }
    }
    names
}

/// What the library is made of, without tests.
fn library(sources: &[Source]) -> Vec<(&[String], String)> {
    let stripped: Vec<_> =
        sources.iter().map(|(module, text)| (module.as_slice(), without_tests(text))).collect();
    let for_tests: Vec<Vec<String>> = stripped
        .iter()
        .flat_map(|(module, (_, names))| {
            names.iter().map(|name| [*module, std::slice::from_ref(name)].concat())
        })
        .collect();
    let is_for_tests = |module: &[String]| for_tests.iter().any(|test| module.starts_with(test));
    stripped
        .into_iter()
        .filter(|(module, _)| !is_for_tests(module))
        .map(|(module, (text, _))| (module, text))
        .collect()
}

fn arrows(sources: &[Source]) -> Arrows {
    let mut arrows = Arrows::new();
    for (module, text) in library(sources) {
        for to in imports(module, &text) {
            if to != module[0] {
                arrows.entry((module[0].clone(), to)).or_default().insert(module.join("::"));
            }
        }
    }
    arrows
}

/// What is wrong with them, a line each.
fn faults(arrows: &Arrows) -> Vec<String> {
    let mut faults = Vec::new();
    for ((from, to), files) in arrows {
        match (layer(from), layer(to)) {
            (None, _) => faults.push(format!("{from} stands in no layer")),
            (_, None) => faults.push(format!("{files:?} import crate::{to}, which is no module of a layer")),
            (Some(own), Some(other)) if other > own => {
                faults.push(format!("an arrow goes up from {from} to {to}, in {files:?}"));
            }
            _ => {}
        }
    }
    // Whatever is left when modules that import nothing that is left are taken away, again and again, forms circles or
    // hangs on them.
    let mut left: BTreeSet<&str> = LAYERS.iter().copied().flatten().copied().collect();
    loop {
        let imports_left =
            |module: &str| arrows.keys().any(|(from, to)| from == module && left.contains(to.as_str()));
        let fewer: BTreeSet<&str> = left.iter().copied().filter(|module| imports_left(module)).collect();
        if fewer.len() == left.len() {
            break;
        }
        left = fewer;
    }
    if !left.is_empty() {
        faults.push(format!("a circle among {left:?}"));
    }
    faults
}

/// The paths that a `use` tree behind a path's start names: of `a::{b, c::d}` they are `a::b` and `a::c::d`.
fn paths(behind: &str) -> Vec<Vec<String>> {
    let name: String = behind.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let list = behind.strip_prefix('{');
    if name.is_empty() && list.is_none() {
        return vec![Vec::new()];
    }
    let Some(list) = list else {
        let rest = behind[name.len()..].strip_prefix("::").map_or_else(|| vec![Vec::new()], paths);
        return rest.into_iter().map(|path| [vec![name.clone()], path].concat()).collect();
    };
    let (mut all, mut depth, mut begins) = (Vec::new(), 0_usize, true);
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && !character.is_whitespace() => {
                all.extend(paths(&list[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    all
}

/// Whether a text names something by this word.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

/// A file without what it imports, and the paths that it imports: of files of the crate, each with whether it is published.
fn split_uses(
    files: &BTreeSet<&[String]>,
    module: &[String],
    text: &str,
) -> (String, Vec<(Vec<String>, bool)>) {
    let parent = &module[..module.len() - 1];
    let (mut rest, mut uses) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((before, behind)) = line.trim_start().split_once("use ") else {
            rest.extend([line, "\n"]);
            continue;
        };
        if !(before.is_empty() || before.starts_with("pub") && before.ends_with([' ', ')'])) {
            rest.extend([line, "\n"]);
            continue;
        }
        let mut tree = behind.to_owned();
        while !tree.contains(';') {
            tree.extend([lines.next().unwrap_or(";"), "\n"]);
        }
        let relative = [("crate::", &[][..]), ("super::", parent), ("self::", module)];
        let (base, tree) = relative
            .iter()
            .find_map(|(start, base)| Some((*base, tree.strip_prefix(start)?)))
            .unwrap_or((module, &tree));
        let of_crate = |path: &Vec<String>| {
            base.len() < module.len() || files.contains(&path[..path.len().min(base.len() + 1)])
        };
        let paths = paths(tree).into_iter().map(|path| [base, &path].concat());
        uses.extend(paths.filter(of_crate).map(|path| (path, !before.is_empty())));
    }
    (rest, uses)
}

/// The paths in a file's text, without what it imports, that lead to files of the crate.
fn named(files: &BTreeSet<&[String]>, module: &[String], text: &str) -> Vec<Vec<String>> {
    let parent = &module[..module.len() - 1];
    let below = files.iter().filter(|file| file.len() == module.len() + 1 && file.starts_with(module));
    let below: Vec<_> = below.map(|file| (format!("{}::", file[module.len()]), file[..].to_vec())).collect();
    let mut starts = vec![("crate::", &[][..]), ("super::", parent)];
    starts.extend(below.iter().map(|(start, file)| (start.as_str(), file.as_slice())));
    let mut named = Vec::new();
    for (start, base) in starts {
        for (at, _) in text.match_indices(start) {
            let before = &text[..at];
            let is_part = before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'));
            // `pub(in crate::a)` names nothing.
            if !is_part && !before.ends_with("(in ") {
                named.extend(paths(&text[at + start.len()..]).into_iter().map(|path| [base, &path].concat()));
            }
        }
    }
    named
}

/// Which file of a module takes something of which. What a file publishes, but doesn't use itself, it only passes on: who takes
/// it from there takes it from where it is.
fn arrows_of_files(library: &[(&[String], String)], within: &str) -> BTreeMap<String, BTreeSet<String>> {
    let files: BTreeSet<&[String]> = library.iter().map(|(module, _)| *module).collect();
    let (mut passed_on, mut taken) = (BTreeMap::new(), Vec::new());
    for (module, text) in library.iter().filter(|(module, _)| module[0] == within) {
        let (text, uses) = split_uses(&files, module, text);
        taken.extend(named(&files, module, &text).into_iter().map(|path| (*module, path)));
        for (path, is_published) in uses {
            let name = path.last().unwrap();
            if !is_published || has_word(&text, name) {
                taken.push((module, path.clone()));
            }
            passed_on.insert([*module, std::slice::from_ref(name)].concat(), path);
        }
    }
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, mut to) in taken {
        let mut file = 0;
        // More often than anything is passed on.
        for _ in 0..8 {
            file = (1..=to.len()).rev().find(|length| files.contains(&to[..*length])).unwrap_or(0);
            let name = (file + 1).min(to.len());
            let Some(origin) = passed_on.get(&to[..name]).filter(|_| to[..file] != *module) else { break };
            to = [origin, &to[name..]].concat();
        }
        if file > 0 && to[0] == within && to[..file] != *module {
            arrows.entry(module.join("::")).or_default().insert(to[..file].join("::"));
        }
    }
    arrows
}

/// The files of a module that form circles, each circle with all files that it reaches and that reach it.
fn circles_of_files(library: &[(&[String], String)], within: &str) -> BTreeSet<BTreeSet<String>> {
    let arrows = arrows_of_files(library, within);
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for from in arrows.keys() {
        let (mut all, mut next) = (BTreeSet::new(), vec![from.as_str()]);
        while let Some(file) = next.pop() {
            let imported = arrows.get(file).into_iter().flatten();
            next.extend(imported.map(String::as_str).filter(|file| all.insert(*file)));
        }
        reached.insert(from, all);
    }
    let around = |file: &str| -> BTreeSet<String> {
        let back = |other: &&&str| reached.get(**other).is_some_and(|of_other| of_other.contains(file));
        reached[file].iter().filter(back).map(|other| (*other).to_owned()).collect()
    };
    reached.keys().map(|file| around(file)).filter(|circle| !circle.is_empty()).collect()
}

fn source(module: &str, text: &str) -> Source {
    (module.split("::").map(str::to_owned).collect(), text.to_owned())
}

#[test]
fn no_arrow_goes_up_and_no_modules_form_a_circle() {
    let sources = sources();
    assert!(sources.len() > 200, "the sources are where they are looked for");
    let found = arrows(&sources);
    assert!(found.len() > 50, "imports are recognised");
    assert_eq!(faults(&found), [""; 0]);
}

#[test]
fn every_module_stands_in_one_layer() {
    let declared: BTreeSet<String> = sources().into_iter().map(|(module, _)| module[0].clone()).collect();
    let listed: Vec<String> = LAYERS.iter().copied().flatten().map(ToString::to_string).collect();
    assert_eq!(listed.len(), declared.len());
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), declared);
}

#[test]
fn no_file_reaches_over_two_modules() {
    for (module, text) in library(&sources()) {
        assert!(!text.contains("super::super"), "{}", module.join("::"));
    }
}

#[test]
fn a_long_file_says_why_it_is_one() {
    for (module, text) in sources() {
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let says = head.join(" ").contains("One file");
        let lines = text.lines().count();
        assert!(
            lines <= 500 || says,
            "{} has {lines} lines: split it, or say why it is \"One file\"",
            module.join("::")
        );
    }
}

#[test]
fn files_form_no_circles_but_those_that_are_named() {
    let is_named = |file: &str, names: &[&str]| {
        names.iter().any(|name| match name.strip_suffix('*') {
            Some(module) => file.strip_prefix(module).is_some_and(|rest| !rest.contains("::")),
            None => *name == file,
        })
    };
    let sources = sources();
    let (library, modules) = (library(&sources), LAYERS.iter().copied().flatten());
    let found: Vec<_> = modules.flat_map(|module| circles_of_files(&library, module)).collect();
    let mut seen = BTreeSet::new();
    for circle in found {
        let known = CIRCLES.iter().position(|(names, _)| circle.iter().all(|file| is_named(file, names)));
        seen.insert(known.unwrap_or_else(|| panic!("a circle that is new: {circle:?}")));
    }
    for (at, (names, reason)) in CIRCLES.iter().enumerate() {
        assert!(seen.contains(&at), "{names:?} form no circle any more ({reason})");
    }
}

#[test]
fn a_circle_of_files_is_found_however_it_is_written() {
    let circles = |texts: &[(&str, &str)]| {
        let files: Vec<Source> = texts.iter().map(|(module, text)| source(module, text)).collect();
        let circles = circles_of_files(&library(&files), "egress").into_iter();
        circles.map(|circle| circle.into_iter().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let [outer, tcp] = [
        ("egress", "mod cx;\nuse cx::Cx;\nstruct Egress {\n    cx: Cx,\n}"),
        ("egress::tcp", "use super::cx::{Cx, Epoch};"),
    ];
    assert_eq!(circles(&[outer, tcp, ("egress::cx", "use crate::error::Error;")]), [""; 0]);
    // What only passes something on isn't what is taken, and a file that hangs on a circle is no part of it.
    let publishes = ("egress", "mod cx;\npub(crate) use cx::Cx;");
    assert_eq!(circles(&[publishes, tcp, ("egress::cx", "use super::Made;")]), [""; 0]);
    assert_eq!(circles(&[outer, ("egress::tcp", "use super::Cx;"), ("egress::cx", "")]), [""; 0]);
    let calls = ("egress", "mod cx;\nfn f() {\n    cx::make();\n}");
    assert_eq!(circles(&[calls, ("egress::cx", "use super::Made;")]), ["egress egress::cx"]);
    assert_eq!(circles(&[outer, tcp, ("egress::cx", "use super::Made;")]), ["egress egress::cx"]);
    let nested = "use crate::{\n    egress::{dns::Dns, tcp},\n    error,\n};";
    assert_eq!(circles(&[outer, tcp, ("egress::cx", nested)]), ["egress egress::cx egress::tcp"]);
    let apart = [("egress::udp", "use super::sni;"), ("egress::sni", "use super::udp;")];
    let both = [outer, ("egress::cx", "use super::Made;"), apart[0], apart[1]];
    assert_eq!(circles(&both), ["egress egress::cx", "egress::sni egress::udp"]);
}

#[test]
fn what_the_architecture_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut files = 0;
    for (at, _) in text.match_indices("`src/") {
        let named = text[at + 1..].split('`').next().unwrap();
        // `{pack,unpack}.rs` are two files, and `**` any number.
        let (before, names) = named.split_once('{').unwrap_or((named, ""));
        let paths: Vec<String> = match names.split_once('}') {
            Some((names, after)) => names.split(',').map(|name| format!("{before}{name}{after}")).collect(),
            None => vec![named.to_owned()],
        };
        for path in paths.iter().filter(|path| !path.contains('*')) {
            assert!(root.join(path).exists(), "ARCHITECTURE.md names {path}, which is not there");
            files += 1;
        }
        // Behind the file are the functions that are meant.
        let Some(names) = text[at + named.len() + 2..].strip_prefix(" (`") else { continue };
        let source = fs::read_to_string(root.join(named)).unwrap_or_default();
        for name in names.split(')').next().unwrap().split('`').step_by(2) {
            let name = name.rsplit("::").next().unwrap();
            assert!(has_word(&source, name), "ARCHITECTURE.md names {name} in {named}, which has none");
        }
    }
    assert!(files > 100, "{files} files are found in ARCHITECTURE.md");
}

#[test]
fn an_arrow_up_is_found_however_it_is_written() {
    for text in [
        "use crate::sandbox::Told;",
        "use crate::{\n    error::{Error, Result},\n    sandbox,\n};",
        "fn f() {\n    let told: crate::sandbox::Told = todo();\n}",
        "use super::super::sandbox::Told;",
        "#[cfg(test)]\nmod tests {\n    use x::y;\n}\nuse crate::sandbox::Told;",
    ] {
        let found = faults(&arrows(&[source("engine::worker", text)]));
        assert_eq!(found, ["an arrow goes up from engine to sandbox, in {\"engine::worker\"}"], "{text}");
    }
}

#[test]
fn what_is_there_for_tests_alone_may_import_anything() {
    let files = [
        source("engine", "#[cfg(test)]\nmod tests;\n// use crate::sandbox::Told;\nuse crate::error::Result;"),
        source("engine::tests::rig", "use crate::sandbox::Told;"),
        source("engine::worker", "#[cfg(test)]\nmod tests {\n    use crate::sandbox::Told;\n}"),
    ];
    assert_eq!(faults(&arrows(&files)), [""; 0]);
}

#[test]
fn a_circle_within_a_layer_is_found() {
    let files =
        [source("egress", "use crate::tunnel::Request;"), source("tunnel", "use crate::egress::Denied;")];
    assert_eq!(faults(&arrows(&files)), ["a circle among {\"egress\", \"tunnel\"}"]);
    assert_eq!(faults(&arrows(&files[..1])), [""; 0]);
}
