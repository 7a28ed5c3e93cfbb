//! The shared library as C sees it: what it exports, what it is called, how structs lie, and the C tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the fuzz target `config` does with its input.
#[path = "../fuzz/config/mod.rs"]
mod config;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo put the shared library that it built for this test: beside the test itself.
fn directory() -> PathBuf {
    let directory = env::current_exe().unwrap().parent().unwrap().to_owned();
    assert!(directory.join("libsbx.so").exists(), "no libsbx.so in {}", directory.display());
    directory
}

fn run(command: &mut Command) -> String {
    let output = command
        // Cargo's has the profile's directory first, where an older library may lie; the programs know their own.
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap_or_else(|cause| panic!("{command:?}: {cause}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    assert_eq!(err, "", "{command:?} wrote to stderr");
    out.into_owned()
}

/// Compares with a committed list, or writes it with SBX_BLESS=1.
fn compare(name: &str, seen: &str) {
    let path = root().join("tests/abi").join(name);
    if env::var_os("SBX_BLESS").is_some() {
        fs::write(&path, seen).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, seen, "tests/abi/{name} differs; write it with SBX_BLESS=1 if that is meant");
}

#[test]
fn only_the_listed_symbols_are_exported() {
    let all = run(Command::new("nm").args(["-D", "--defined-only"]).arg(directory().join("libsbx.so")));
    let mut names: Vec<_> = all.lines().filter_map(|line| line.split_whitespace().last()).collect();
    names.retain(|name| !cfg!(feature = "test-hooks") || !name.starts_with("sbx_test_"));
    names.sort_unstable();
    compare("exported.txt", &(names.join("\n") + "\n"));
    assert!(names.iter().all(|name| name.starts_with("sbx_")), "{names:?}");
}

#[test]
fn every_exported_function_is_in_the_header_and_only_those() {
    let header = fs::read_to_string(root().join("include/sbx.h")).unwrap();
    let exported = fs::read_to_string(root().join("tests/abi/exported.txt")).unwrap();
    for name in exported.lines() {
        assert!(header.contains(&format!("{name}(")), "{name} is not in the header");
    }
    let code = header.lines().filter(|line| !line.starts_with("//") && !line.trim_start().starts_with('*'));
    for word in code.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '('))
    {
        if let Some((name, _)) = word.split_once('(').filter(|(name, _)| name.starts_with("sbx_")) {
            assert!(exported.lines().any(|line| line == name), "{name} is not exported");
        }
    }
}

#[test]
fn the_library_has_its_soname_and_stays_loaded() {
    let library = directory().join("libsbx.so");
    let dynamic = run(Command::new("readelf").arg("-dW").arg(&library));
    assert!(dynamic.contains("[libsbx.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    let link = directory().join("libsbx.so.0");
    assert_eq!(fs::canonicalize(link).unwrap(), fs::canonicalize(library).unwrap());
}

#[test]
fn structs_lie_as_they_always_did_and_without_padding() {
    let layout = run(&mut Command::new(compile("layout", &[])));
    compare("layout.txt", &layout);
    let (mut size, mut end) = (0_usize, 0_usize);
    for line in layout.lines() {
        let words: Vec<_> = line.split(' ').collect();
        if words.len() == 2 {
            assert_eq!(size, end, "padding before {line}");
            (size, end) = (words[1].parse().unwrap(), 0);
        } else {
            assert_eq!(end, words[1].parse::<usize>().unwrap(), "padding before {line}");
            end += words[2].parse::<usize>().unwrap();
        }
    }
    assert_eq!(size, end, "padding at the end");
}

/// Compiles a C test against the header and the library.
fn compile(name: &str, flags: &[&str]) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let directory = directory();
    run(Command::new("cc")
        .args(["-std=gnu99", "-Wall", "-Wextra", "-Werror", "-g", "-pthread"])
        .args(flags)
        .arg("-I")
        .arg(root().join("include"))
        .arg(root().join("tests/c").join(name).with_extension("c"))
        .arg("-o")
        .arg(&program)
        .arg(format!("-L{}", directory.display()))
        .arg("-lsbx")
        .arg(format!("-Wl,-rpath,{}", directory.display())));
    program
}

/// Runs a C test under the address and undefined-behaviour sanitizers; it must be silent.
fn sanitized(name: &str) {
    let program = compile(name, &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    let output =
        run(Command::new(program).env_remove("SBX_RUNSC").env("UBSAN_OPTIONS", "print_stacktrace=1"));
    assert_eq!(output, "");
}

#[test]
fn what_was_found_by_fuzzing_configs_stays_mended() {
    let seeds: Vec<_> = fs::read_dir(root().join("fuzz/seeds/config")).unwrap().flatten().collect();
    assert!(!seeds.is_empty());
    for seed in seeds {
        println!("{}", seed.path().display());
        config::run(&fs::read(seed.path()).unwrap());
    }
}

#[test]
fn handles() {
    sanitized("handles");
}

#[test]
fn files() {
    sanitized("files");
    // In a sandbox, where there is runsc; without sanitizers, for those are not made for what starts it.
    assert_eq!(run(&mut Command::new(compile("files", &[]))), "");
}

#[test]
fn operation() {
    sanitized("operation");
    // In a sandbox, as files.
    assert_eq!(run(&mut Command::new(compile("operation", &[]))), "");
}

#[test]
fn image() {
    sanitized("image");
    // In a sandbox, as files.
    assert_eq!(run(&mut Command::new(compile("image", &[]))), "");
}

#[test]
fn volume() {
    sanitized("volume");
    // In a sandbox, as files.
    assert_eq!(run(&mut Command::new(compile("volume", &[]))), "");
}

#[test]
fn settings() {
    sanitized("settings");
}

#[test]
fn exec() {
    sanitized("exec");
}

#[test]
fn warm() {
    sanitized("warm");
}

#[test]
fn policy() {
    sanitized("policy");
}

#[test]
fn sizes() {
    sanitized("sizes");
}

#[test]
fn queue() {
    sanitized("queue");
}

#[test]
fn doctor() {
    // Without sanitizers, for those are not made for what the check starts.
    assert_eq!(run(&mut Command::new(compile("doctor", &[]))), "");
}

#[test]
fn log() {
    sanitized("log");
}

#[test]
fn fork() {
    sanitized("fork");
}

#[test]
fn small_stack() {
    // Without sanitizers, which take stack of their own.
    assert_eq!(run(&mut Command::new(compile("small_stack", &[]))), "");
}

#[cfg(feature = "test-hooks")]
#[test]
fn panic() {
    sanitized("panic");
}
