//! The committed header is the one that the sources make, and both C and C++ take it.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn committed() -> PathBuf {
    root().join("include/sbx.h")
}

fn made() -> String {
    fs::read_to_string(concat!(env!("OUT_DIR"), "/sbx.h")).unwrap()
}

#[test]
fn the_committed_header_is_what_the_sources_make() {
    let made = made();
    if std::env::var_os("SBX_BLESS").is_some() {
        fs::write(committed(), &made).unwrap();
    }
    let committed = fs::read_to_string(committed()).unwrap_or_default();
    let differs = made.lines().zip(committed.lines()).find(|(made, committed)| made != committed);
    assert!(
        made == committed,
        "include/sbx.h is not what the sources make (first difference: {differs:?}); \
         write it with SBX_BLESS=1 cargo test --test header"
    );
}

/// Calls of the header's functions for configs and policies, for the fuzz target `config`: a function that is added is
/// called without a word. One with an argument of a type that isn't known here is left out.
fn calls(header: &str) -> String {
    let code: Vec<_> = header.lines().filter_map(|line| line.split("//").next()).collect();
    let code = code.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut declared, mut called, mut left_out) = (String::new(), String::new(), Vec::new());
    let mut ids = BTreeSet::new();
    for declaration in code.split([';', '}']) {
        let Some((name, arguments)) = declaration
            .trim()
            .strip_prefix("int sbx_")
            .and_then(|rest| rest.strip_suffix(')')?.split_once('('))
            .filter(|(name, _)| ["config_", "policy_", "exec_config_"].iter().any(|of| name.starts_with(of)))
        else {
            continue;
        };
        let known: Option<Vec<_>> = arguments.split(", ").map(argument).collect();
        let Some(known) = known else {
            left_out.push(name);
            continue;
        };
        let types: Vec<_> =
            known.iter().enumerate().map(|(at, (kind, _))| format!("a{at}: {kind}")).collect();
        let values: Vec<_> = known.iter().map(|(_, value)| *value).collect();
        writeln!(declared, "    fn sbx_{name}({}) -> i32;", types.join(", ")).unwrap();
        let id = id(name);
        assert!(ids.insert(id), "the number of {name} is another function's, too");
        writeln!(called, "        {id} => unsafe {{ sbx_{name}({}) }},", values.join(", ")).unwrap();
    }
    let count = ids.len();
    assert!(count > 2 * left_out.len() && count > 20, "called: {count}; types not known of: {left_out:?}");
    let ids = ids.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "//! Made by tests/header.rs.\n\nuse std::ffi::{{c_char, c_void}};\n\nuse super::{{Handles, Input}};\n\n\
         unsafe extern \"C\" {{\n{declared}}}\n\n/// The functions' numbers.\nconst IDS: [u16; {count}] = [{ids}];\n\n\
         /// Calls the function of that number, or else any of them.\n\
         pub(super) fn call(number: u16, input: &mut Input<'_>, handles: &Handles) -> i32 {{\n    \
         let any = IDS[usize::from(number) % IDS.len()];\n    \
         match if IDS.contains(&number) {{ number }} else {{ any }} {{\n{called}        _ => 0,\n    }}\n}}\n"
    )
}

/// The number by which inputs name a function. It follows from the name, so that seeds mean the same calls after a
/// function was added.
fn id(name: &str) -> u16 {
    name.bytes().fold(0, |sum, byte| sum.wrapping_mul(251).wrapping_add(byte.into()))
}

/// The Rust type of a C argument, and where the fuzz target takes its value from.
fn argument(declared: &str) -> Option<(&'static str, &'static str)> {
    // A type and a name, or a pointer's star before the name.
    let end = declared.rfind([' ', '*'])? + 1;
    let kind = declared[..end].replace("const", "").replace("struct ", "").replace(' ', "");
    Some(match kind.as_str() {
        "int" | "int32_t" => ("i32", "input.number() as i32"),
        "uint16_t" => ("u16", "input.number() as u16"),
        "uint32_t" => ("u32", "input.number() as u32"),
        "int64_t" => ("i64", "input.number() as i64"),
        "uint64_t" => ("u64", "input.number()"),
        "size_t" => ("usize", "input.size()"),
        "char*" => ("*const c_char", "input.text()"),
        "char**" => ("*const *const c_char", "input.list()"),
        "sbx_config*" => ("*const c_void", "handles.config(input)"),
        "sbx_policy*" => ("*const c_void", "handles.policy(input)"),
        "sbx_exec_config*" => ("*const c_void", "handles.exec_config(input)"),
        "sbx_queue*" => ("*const c_void", "handles.queue(input)"),
        "sbx_error*" | "sbx_verdict*" => ("*mut c_void", "input.room()"),
        _ => return None,
    })
}

#[test]
fn the_fuzz_targets_calls_are_those_of_the_header() {
    let made = calls(&made());
    let path = root().join("fuzz/config/calls.rs");
    if std::env::var_os("SBX_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert!(
        fs::read_to_string(path).unwrap_or_default() == made,
        "fuzz/config/calls.rs is not what the header makes; write it with SBX_BLESS=1 cargo test --test header"
    );
}

/// The version of this package in a lock file, and what it depends on.
fn locked(file: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let package =
        text.split("[[package]]\n").find(|package| package.starts_with("name = \"sbx\"\n")).unwrap();
    // A dependency has a version behind it where the file has two of that name.
    let name = |line: &str| {
        line.strip_prefix(" \"").and_then(|rest| rest.split([' ', '"']).next().map(str::to_owned))
    };
    package.lines().map(|line| name(line).unwrap_or_else(|| line.to_owned())).collect()
}

#[test]
fn the_fuzz_targets_are_locked_to_what_the_library_depends_on() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, tests_only) = manifest.split_once("[dev-dependencies]\n").unwrap();
    let named = |name: &str| manifest.matches(&format!("\n{name} = ")).count();
    let mut tests_only: Vec<_> = tests_only.lines().map_while(|line| line.split_once(" = ")).collect();
    // Others are the fuzz targets' too.
    tests_only.retain(|(name, _)| named(name) == 1);
    let mut wanted = locked("Cargo.lock");
    wanted.retain(|line| !tests_only.iter().any(|(name, _)| line == name));
    assert_eq!(
        locked("fuzz/Cargo.lock"),
        wanted,
        "run cargo update --workspace --manifest-path fuzz/Cargo.toml"
    );
}

#[test]
fn the_version_macro_is_the_package_version() {
    let number = |text: &str| text.parse::<u32>().unwrap();
    let version = number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | number(env!("CARGO_PKG_VERSION_PATCH"));
    let header = fs::read_to_string(committed()).unwrap();
    assert!(
        header.contains(&format!("#define SBX_ABI_VERSION {version}\n")),
        "expected SBX_ABI_VERSION {version}"
    );
}

#[test]
fn the_header_compiles_as_c99_and_cxx11() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = "#include <sbx.h>\n#include <sbx.h>\n\
        sbx_error error = SBX_ERROR_INIT;\nsbx_exit end = SBX_EXIT_INIT;\nsbx_event event = SBX_EVENT_INIT;\n\
        sbx_runtime_config config = SBX_RUNTIME_CONFIG_INIT;\n\
        sbx_finding finding = SBX_FINDING_INIT;\nsbx_sandbox_entry entry = SBX_SANDBOX_ENTRY_INIT;\n\
        sbx_policy_summary summary = SBX_POLICY_SUMMARY_INIT;\nsbx_output output = SBX_OUTPUT_INIT;\n\
        sbx_tunnel tunnel = SBX_TUNNEL_INIT;\n\
        sbx_image_options pull = SBX_IMAGE_OPTIONS_INIT;\nsbx_image_summary image = SBX_IMAGE_SUMMARY_INIT;\n\
        sbx_volume_summary volume = SBX_VOLUME_SUMMARY_INIT;\n\
        sbx_file_options options = SBX_FILE_OPTIONS_INIT;\nsbx_file_entry file = SBX_FILE_ENTRY_INIT;\n\
        sbx_file_totals totals = SBX_FILE_TOTALS_INIT;\nsbx_warm_stats warm = SBX_WARM_STATS_INIT;\n\
        struct sbx_error *tagged = &error;\nint main(void) { return tagged->code; }\n";
    for (compiler, standard, extension) in [("cc", "-std=c99", "c"), ("c++", "-std=c++11", "cc")] {
        let file = directory.join(format!("header.{extension}"));
        fs::write(&file, source).unwrap();
        let output = Command::new(compiler)
            .args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-fsyntax-only"])
            .arg("-I")
            .arg(root().join("include"))
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
