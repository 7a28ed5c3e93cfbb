//! The committed header is the one that the sources make, and both C and C++ take it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn committed() -> PathBuf {
    root().join("include/sbx.h")
}

#[test]
fn the_committed_header_is_what_the_sources_make() {
    let made = fs::read_to_string(concat!(env!("OUT_DIR"), "/sbx.h")).unwrap();
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
        sbx_file_options options = SBX_FILE_OPTIONS_INIT;\nsbx_file_entry file = SBX_FILE_ENTRY_INIT;\n\
        sbx_file_totals totals = SBX_FILE_TOTALS_INIT;\n\
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
