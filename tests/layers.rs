//! The layers of `src` as its imports have them: no arrow goes up, and no modules form a circle.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by it")]

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

/// The modules whose files form no circle. In `sandbox` a command to the control thread holds the work to be done, and
/// where that work is made it is sent; elsewhere, files import a type of `mod.rs`, which publishes theirs.
const WITHOUT_CIRCLES: &[&str] = &[
    "cgroup", "doctor", "egress", "engine", "keeper", "net", "process", "pump", "reactor", "runtime", "sys",
    "tunnel", "volume",
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

/// The files of a module that form circles, or hang on them. A file that passes on what is in another imports it.
fn circle_of_files(sources: &[Source], within: &str) -> BTreeSet<String> {
    let library = library(sources);
    let files: BTreeSet<&[String]> = library.iter().map(|(module, _)| *module).collect();
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, text) in library.iter().filter(|(module, _)| module[0] == within) {
        let parent = &module[..module.len() - 1];
        let starts = [("crate::", &[][..]), ("super::", parent), ("use ", module)];
        for (start, base) in starts {
            for (at, _) in text.match_indices(start) {
                let before = &text[..at];
                let is_part = before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'));
                // `pub(in crate::a)` imports nothing.
                if is_part || before.ends_with("(in ") {
                    continue;
                }
                for path in paths(&text[at + start.len()..]) {
                    let mut to = [base, &path].concat();
                    // `use` of a name that is no file here is of another crate, or seen by its other start.
                    if start == "use " && !files.contains(&to[..to.len().min(base.len() + 1)]) {
                        continue;
                    }
                    while !to.is_empty() && !files.contains(&to[..]) {
                        to.pop();
                    }
                    if to.first().is_some_and(|top| top == within) && to != *module {
                        arrows.entry(module.join("::")).or_default().insert(to.join("::"));
                    }
                }
            }
        }
    }
    let mut left: BTreeSet<String> = arrows.keys().cloned().collect();
    loop {
        let fewer: BTreeSet<String> = left
            .iter()
            .filter(|file| arrows.get(*file).is_some_and(|to| !to.is_disjoint(&left)))
            .cloned()
            .collect();
        if fewer.len() == left.len() {
            return left;
        }
        left = fewer;
    }
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
fn no_files_of_these_modules_form_a_circle() {
    let sources = sources();
    for module in WITHOUT_CIRCLES {
        assert_eq!(circle_of_files(&sources, module), BTreeSet::new(), "{module}");
    }
}

#[test]
fn a_circle_of_files_is_found_however_it_is_written() {
    let circle = |texts: &[(&str, &str)]| {
        let files: Vec<Source> = texts.iter().map(|(module, text)| source(module, text)).collect();
        circle_of_files(&files, "egress").into_iter().collect::<Vec<_>>()
    };
    let [outer, tcp] =
        [("egress", "mod cx;\npub(crate) use cx::Cx;"), ("egress::tcp", "use super::cx::{Cx, Epoch};")];
    assert_eq!(circle(&[outer, tcp, ("egress::cx", "use crate::error::Error;")]), [""; 0]);
    assert_eq!(
        circle(&[outer, tcp, ("egress::cx", "use super::Cx;")]),
        ["egress", "egress::cx", "egress::tcp"]
    );
    let nested = "use crate::{\n    egress::{dns::Dns, tcp},\n    error,\n};";
    assert_eq!(circle(&[outer, tcp, ("egress::cx", nested)]), ["egress", "egress::cx", "egress::tcp"]);
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
