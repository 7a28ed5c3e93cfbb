//! Makes calls of the header's functions for configs and policies: for `targets/config.rs`.
//!
//! From the header, so that a function that is added is called without a word here. One with an argument of a type that
//! isn't known here is left out, which fails if there are many.

use std::fmt::Write;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=../include/sbx.h");
    let header = fs::read_to_string("../include/sbx.h").unwrap();
    let without_comments: Vec<_> = header.lines().map(|line| line.split("//").next().unwrap()).collect();
    let header = without_comments.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut declared, mut called, mut count, mut left_out) = (String::new(), String::new(), 0, Vec::new());
    for declaration in header.split([';', '}']) {
        let Some((name, arguments)) = declaration
            .trim()
            .strip_prefix("int sbx_")
            .and_then(|rest| rest.strip_suffix(')')?.split_once('('))
        else {
            continue;
        };
        if !["config_", "policy_", "exec_config_"].iter().any(|family| name.starts_with(family)) {
            continue;
        }
        // A type and a name, or a pointer's star before the name.
        let types: Option<Vec<_>> = arguments
            .split(", ")
            .map(|argument| {
                let end = argument.rfind([' ', '*'])? + 1;
                let kind = argument[..end].replace("const ", "").replace("const", "").replace("struct ", "");
                Some(match kind.replace(' ', "").as_str() {
                    "int" | "int32_t" => ("i32", "input.number() as i32"),
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
            })
            .collect();
        let Some(types) = types else {
            left_out.push(name);
            continue;
        };
        let list = |part: fn(&(&'static str, &'static str)) -> &'static str| {
            types.iter().map(part).collect::<Vec<_>>()
        };
        let numbered: Vec<_> =
            list(|(kind, _)| kind).iter().enumerate().map(|(at, kind)| format!("a{at}: {kind}")).collect();
        writeln!(declared, "    fn sbx_{name}({}) -> i32;", numbered.join(", ")).unwrap();
        writeln!(
            called,
            "        {count} => unsafe {{ sbx_{name}({}) }},",
            list(|(_, value)| value).join(", ")
        )
        .unwrap();
        count += 1;
    }
    assert!(count > 2 * left_out.len() && count > 20, "called: {count}; types not known of: {left_out:?}");
    let made = format!(
        "unsafe extern \"C\" {{\n{declared}}}\n\n/// How many functions there are.\nconst COUNT: u8 = {count};\n\n\
         /// Calls one of them.\nfn call(which: u8, input: &mut Input<'_>, handles: &Handles) -> i32 {{\n    \
         match which % COUNT {{\n{called}        _ => 0,\n    }}\n}}\n"
    );
    fs::write(format!("{}/calls.rs", env::var("OUT_DIR").unwrap()), made).unwrap();
}
