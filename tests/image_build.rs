//! Images that are built by a Dockerfile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by it"
)]

mod common;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::images::{BUSYBOX, Layer, Made, Tar, TestStore, collected, open};
use common::registry::{PASSWORD, Registry, USER};
use common::{PATIENCE, eventually};
use sbx::{
    Build, Code, Config, Error, Event, Exec, Image, ImageOptions, Policy, Queue, Runtime, Sandbox, Stdio,
    Stream,
};

/// What busybox is called as.
const APPLETS: &[&str] = &[
    "cat", "chmod", "echo", "env", "false", "find", "grep", "id", "ls", "mkdir", "nc", "pwd", "readlink",
    "rm", "seq", "sh", "sleep", "stat", "tail", "touch", "true",
];

/// A store with a base image that is named `base`.
fn store(name: &str) -> TestStore {
    let store = TestStore::new(name);
    let busybox = fs::read(BUSYBOX).expect("busybox-static is installed by tests/run.sh");
    let passwd = b"root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n";
    let mut tar = Tar::default()
        .directory("bin", 0o755, (0, 0))
        .file("bin/busybox", 0o755, (0, 0), &busybox)
        .directory("etc", 0o755, (0, 0))
        .file("etc/passwd", 0o644, (0, 0), passwd)
        .file("etc/group", 0o644, (0, 0), b"root:x:0:\nstaff:x:50:\n")
        .directory("srv", 0o700, (7, 8));
    for applet in APPLETS {
        tar = tar.symlink(&format!("bin/{applet}"), "busybox");
    }
    fs::write(store.scratch.0.join("root.tar"), tar.finish()).unwrap();
    let mut options = ImageOptions::new();
    options.tag = Some("base".to_owned());
    store.runtime.import_image(store.scratch.0.join("root.tar"), &options).unwrap();
    store
}

/// A build whose output is read when it has ended.
struct Said {
    build: Build,
    reader: std::io::PipeReader,
}

impl Said {
    fn new(dockerfile: &str) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut build = Build::new(dockerfile);
        build.set_output(writer.into()).unwrap();
        Self { build, reader }
    }

    fn run(self, store: &TestStore) -> (Result<Image, Error>, String) {
        let Self { build, mut reader } = self;
        let result = store.runtime.build_image(&build);
        drop(build);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        (result, text)
    }
}

/// Builds it; returns the image and what was said.
fn build(store: &TestStore, dockerfile: &str) -> (Image, String) {
    let (image, said) = Said::new(dockerfile).run(store);
    (image.unwrap_or_else(|error| panic!("{error}: {said}")), said)
}

/// The same with a directory to copy from.
fn build_in(store: &TestStore, dockerfile: &str, context: &std::path::Path) -> (Image, String) {
    let mut said = Said::new(dockerfile);
    said.build.set_context(context).unwrap();
    let (image, said) = said.run(store);
    (image.unwrap_or_else(|error| panic!("{error}: {said}")), said)
}

fn failed(store: &TestStore, dockerfile: &str) -> Error {
    store.runtime.build_image(&Build::new(dockerfile)).unwrap_err()
}

/// A sandbox on an image, without a program of its own.
fn start(store: &TestStore, image: &Image) -> Sandbox {
    let mut config = Config::new();
    config.set_image(image).unwrap().set_no_command().unwrap();
    store.runtime.create(&config).unwrap()
}

/// What a script says in a sandbox on the image.
fn shell(store: &TestStore, image: &Image, script: &str) -> String {
    let sandbox = start(store, image);
    let mut exec = Exec::new();
    exec.set_command(["/bin/sh", "-c", script]).unwrap();
    exec.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    exec.set_stdio(Stream::Stderr, Stdio::Merged).unwrap();
    let program = sandbox.exec(&exec).unwrap();
    program.wait(PATIENCE).unwrap();
    loop {
        let captured = program.captured(Stream::Stdout).unwrap();
        if captured.complete {
            return String::from_utf8_lossy(&[captured.head, captured.tail].concat()).into_owned();
        }
    }
}

/// A directory to copy from.
fn context(store: &TestStore) -> PathBuf {
    let directory = store.scratch.0.join("context");
    fs::create_dir_all(directory.join("tree/deep")).unwrap();
    for (name, mode, text) in [
        ("app.sh", 0o755, "#!/bin/sh\necho app\n"),
        ("tree/one", 0o640, "one\n"),
        ("tree/deep/two", 0o600, "two\n"),
        ("tree/left-out", 0o600, "not\n"),
    ] {
        fs::write(directory.join(name), text).unwrap();
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("one", directory.join("tree/link")).unwrap();
    fs::write(directory.join(".dockerignore"), "**/left-out\n").unwrap();
    directory
}

/// How often a step was done, and how often its result was there.
fn steps(said: &str) -> (usize, usize) {
    let steps = said.lines().filter(|line| line.starts_with('[')).count();
    let cached = said.lines().filter(|line| line.starts_with('[') && line.contains("] CACHED ")).count();
    (steps - cached, cached)
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn each_step_finds_what_those_before_it_have_left() {
    let store = store("steps");
    let (image, said) = build(
        &store,
        "FROM base\nENV PATH=/bin GREETING=hello\nWORKDIR /work/deep\nRUN echo $GREETING >one; pwd >>one; \
         echo in-tmp >/tmp/kept\nUSER web\nARG WHO=nobody\nRUN id -u >/tmp/user; echo $WHO >>/tmp/user; cat /tmp/kept\n\
         USER 0\nRUN [\"touch\", \"/a b\"]\nLABEL l=v\nEXPOSE 80\nENTRYPOINT [\"/bin/cat\"]\nCMD [\"/work/deep/one\"]\n",
    );
    assert_eq!(steps(&said), (12, 0), "{said}");
    assert!(said.contains("[1/12] FROM base\n") && said.contains("in-tmp\n"), "{said}");
    let config = image.config();
    assert_eq!(
        (config.entrypoint.as_slice(), config.cmd.as_slice()),
        (&["/bin/cat".to_owned()][..], &["/work/deep/one".to_owned()][..])
    );
    assert_eq!((config.working_dir.as_deref(), config.user.as_deref()), (Some("/work/deep"), Some("0")));
    assert_eq!(config.exposed_ports, ["80/tcp"]);
    assert_eq!(config.labels.get("l").map(String::as_str), Some("v"));
    assert!(config.env.contains(&("GREETING".to_owned(), "hello".to_owned())));
    assert!(!config.env.iter().any(|(name, _)| name == "WHO"), "an argument is not the image's");
    let script = "cat one; ls '/a b'; stat -c '%a %u' /tmp";
    assert_eq!(shell(&store, &image, script), "hello\n/work/deep\n/a b\n1777 0\n");
    // /tmp of a sandbox is a file system of its own; a mount of the image shows what is in the image's.
    let mut config = Config::new();
    config.set_image(&image).unwrap().set_no_command().unwrap().mount_image(&image, "/image").unwrap();
    let sandbox = store.runtime.create(&config).unwrap();
    let read =
        |path: &str| String::from_utf8(sandbox.read_file(path, &sbx::FileOptions::new()).unwrap()).unwrap();
    assert_eq!(
        (read("/image/tmp/kept"), read("/image/tmp/user")),
        ("in-tmp\n".to_owned(), "1000\nnobody\n".to_owned())
    );
    assert_eq!(store.left().0.len(), 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_working_directory_is_made_where_it_stands() {
    let store = store("workdirs");
    let (image, said) = build(
        &store,
        "FROM base\nENV PATH=/bin\nRUN test ! -e /srv/app && pwd >/first\nWORKDIR /srv/app\nRUN pwd >here\nWORKDIR \
         /srv/last\n",
    );
    assert_eq!(steps(&said), (6, 0), "{said}");
    assert_eq!(
        shell(&store, &image, "pwd; cat /first /srv/app/here; ls /srv"),
        "/srv/last\n/\n/srv/app\napp\nlast\n"
    );
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_working_directory_at_the_end_is_in_the_image() {
    let store = store("last-workdir");
    let context = context(&store);
    let look = "stat -c '%n %u:%g %a' /a /a/b";
    // A sandbox makes the directory that it starts in, so another one is looked for.
    for (steps, expected) in [
        ("WORKDIR /a/b\nWORKDIR /\n", "/a 0:0 755\n/a/b 0:0 755\n"),
        ("USER web\nWORKDIR /a/b\nWORKDIR /\n", "/a 0:0 755\n/a/b 0:0 755\n"),
        ("COPY app.sh /a/\nWORKDIR /a/b\nWORKDIR /\n", "/a 0:0 755\n/a/b 0:0 755\n"),
        ("RUN true\nWORKDIR /a/b\nENV x=y\nWORKDIR /\n", "/a 0:0 755\n/a/b 0:0 755\n"),
        ("COPY app.sh /app\nWORKDIR /a/b\nWORKDIR /\nCOPY app.sh /a/b/app\n", "/a 0:0 755\n/a/b 0:0 755\n"),
    ] {
        let (image, _) = build_in(&store, &format!("FROM base\nENV PATH=/bin\n{steps}"), &context);
        assert_eq!(shell(&store, &image, look), expected, "{steps}");
    }
    // What is there stays as it is.
    let (image, _) = build(&store, "FROM base\nENV PATH=/bin\nWORKDIR /srv\n");
    assert_eq!(shell(&store, &image, "stat -c '%n %u:%g %a' /srv"), "/srv 7:8 700\n");
    assert_eq!(steps(&build(&store, "FROM base\nENV PATH=/bin\nWORKDIR /srv\n").1), (3, 0));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn the_triggers_of_a_base_are_done_first_and_once() {
    let store = store("triggers");
    let context = context(&store);
    let triggers = [
        "ENV PATH=/bin FROM_BASE=yes",
        "ARG WHO=nobody",
        "COPY app.sh /from-base",
        "RUN echo $WHO $FROM_BASE >/triggered",
        "WORKDIR /work",
    ];
    let busybox = fs::read(BUSYBOX).unwrap();
    let mut tar = Tar::default().directory("bin", 0o755, (0, 0)).file("bin/busybox", 0o755, (0, 0), &busybox);
    for applet in APPLETS {
        tar = tar.symlink(&format!("bin/{applet}"), "busybox");
    }
    let path = store.scratch.0.join("with-triggers.tar");
    let triggering = |triggers: &[&str]| {
        let made = Made::new(
            vec![Layer::plain(tar.clone())],
            &serde_json::json!({"OnBuild": triggers, "Cmd": ["sh"]}),
        );
        fs::write(&path, made.docker_archive("triggers:1")).unwrap();
        let mut options = ImageOptions::new();
        options.tag = Some("triggers:1".to_owned());
        store.runtime.import_image(path.clone(), &options).unwrap()
    };
    triggering(&triggers);
    let mut said = Said::new("FROM triggers:1\nRUN cat /triggered >>own; pwd >>own\n");
    said.build.set_context(&context).unwrap().add_arg("WHO", "me").unwrap();
    let (image, said) = said.run(&store);
    let image = image.unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(said.contains("ONBUILD RUN echo") && !said.contains("warning"), "{said}");
    assert_eq!(shell(&store, &image, "cat /work/own; /from-base"), "me yes\n/work\napp\n");
    // They are the build's that begins with that image; not of those that begin with this one.
    let (next, said) = build(&store, &format!("FROM {}\nRUN echo next >/next\n", image.id()));
    assert!(!said.contains("ONBUILD"), "{said}");
    assert_eq!(shell(&store, &next, "cat /next; cat /work/own"), "next\nme yes\n/work\n");
    // Nothing else changes, and they are done.
    let (only, said) = build_in(&store, "FROM triggers:1\n", &context);
    assert_eq!(shell(&store, &only, "cat /triggered"), "nobody yes\n", "{said}");
    assert!(!build(&store, &format!("FROM {}\n", only.id())).1.contains("ONBUILD"));
    for (bad, code, text) in [
        ("FROM other", Code::Unsupported, "FROM can't be a trigger"),
        ("RUN --mount=type=secret,id=token cat /run/secrets/token", Code::Unsupported, "can't have secrets"),
        ("ONBUILD RUN x", Code::Unsupported, "isn't supported"),
        ("NONSENSE", Code::Invalid, "is no instruction"),
        ("RUN a\nRUN b", Code::Invalid, "must be one instruction"),
        ("", Code::Invalid, "must be one instruction"),
    ] {
        triggering(&[bad]);
        let error = failed(&store, "FROM triggers:1\n");
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains("ONBUILD") && error.message().contains(text), "{error}");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn the_builds_own_patterns_stand_in_the_place_of_dockerignore() {
    let store = store("ignore");
    let context = context(&store);
    let files = |image: &Image| {
        let found = shell(&store, image, "cd /all; find . -type f -o -type l");
        let mut lines: Vec<String> = found.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let of = |patterns: &[&str]| {
        let mut said = Said::new("FROM base\nENV PATH=/bin\nCOPY . /all/\n");
        said.build.set_context(&context).unwrap().set_ignore(patterns).unwrap();
        let (image, said) = said.run(&store);
        (image.unwrap_or_else(|error| panic!("{error}: {said}")), said)
    };
    let (by_file, _) = build_in(&store, "FROM base\nENV PATH=/bin\nCOPY . /all/\n", &context);
    assert_eq!(
        files(&by_file),
        ["./.dockerignore", "./app.sh", "./tree/deep/two", "./tree/link", "./tree/one"]
    );
    for (patterns, expected) in [
        (
            &[][..],
            &[
                "./.dockerignore",
                "./app.sh",
                "./tree/deep/two",
                "./tree/left-out",
                "./tree/link",
                "./tree/one",
            ][..],
        ),
        (&["**/left-out", ".dockerignore"], &["./app.sh", "./tree/deep/two", "./tree/link", "./tree/one"]),
        (&["*", "!tree/deep", "!app.sh"], &["./app.sh", "./tree/deep/two"]),
    ] {
        assert_eq!(files(&of(patterns).0), expected, "{patterns:?}");
    }
    // What is copied decides whether it was done before, not what says so.
    let (again, said) = of(&["**/left-*"]);
    assert_eq!((again.id(), steps(&said)), (by_file.id(), (2, 1)), "{said}");
    let mut named = Build::new("FROM base\nCOPY --from=other tree/left-out /\nCOPY tree/one /\n");
    named
        .set_context(&context)
        .unwrap()
        .add_context("other", &context)
        .unwrap()
        .set_ignore(["tree"])
        .unwrap();
    let error = store.runtime.build_image(&named).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("step 3/3") && error.message().contains("ignore patterns"), "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn the_bytes_that_a_build_adds_are_bounded() {
    let store = store("bounded");
    let context = context(&store);
    fs::write(context.join("large"), vec![1; 5 << 20]).unwrap();
    let before = store.left().1.len();
    let of = |steps: &str, most: u64| {
        let mut build = Build::new(&format!("FROM base\nENV PATH=/bin\n{steps}"));
        build.set_context(&context).unwrap().set_max_bytes(most).unwrap().set_no_cache().unwrap();
        store.runtime.build_image(&build)
    };
    let refused = |steps: &str, most: u64| {
        let error = of(steps, most).unwrap_err();
        assert_eq!(error.code(), Code::Limit, "{steps}: {error}");
        assert!(error.message().contains(&format!("{most} bytes together (its max_bytes)")), "{error}");
        eventually("nothing is being written", || store.left().0.is_empty());
    };
    // The first step adds too much: what is copied, and what a program writes.
    refused("COPY large /\n", 4 << 20);
    refused("RUN seq 1000000 >/large\n", 4 << 20);
    assert_eq!(store.left().1.len(), before);
    // The base doesn't count.
    of("COPY large /\n", 6 << 20).unwrap();
    of("CMD [\"x\"]\n", 64 << 10).unwrap();
    // Each by itself is small enough, and not all of them.
    let steps = "RUN seq 100000 >/a\nRUN seq 100000 >/b\nRUN seq 100000 >/c\n";
    refused(steps, 1 << 20);
    of(steps, 2 << 20).unwrap();
    // What is stored doesn't count.
    let mut again = Build::new(&format!("FROM base\nENV PATH=/bin\n{steps}"));
    again.set_context(&context).unwrap().set_max_bytes(1).unwrap();
    store.runtime.build_image(&again).unwrap();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn more_files_are_copied_than_an_image_has_layers() {
    let store = store("copies");
    let copies: String = (0..130).map(|number| format!("WORKDIR /w{number}/a\nCOPY app.sh ./b\n")).collect();
    let mut said = Said::new(&format!("FROM base\nENV PATH=/bin\n{copies}WORKDIR /\n"));
    said.build.set_context(context(&store)).unwrap();
    let (image, said) = said.run(&store);
    let image = image.unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(
        shell(&store, &image, "for file in /w*/a/b; do echo -n .; done; /w0/a/b; /w129/a/b"),
        format!("{}app\napp\n", ".".repeat(130))
    );
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn what_was_done_before_is_not_done_again() {
    let store = store("cache");
    let text = "FROM base\nENV PATH=/bin\nRUN echo $RANDOM$RANDOM >/one\nCMD [\"a\"]\n";
    let (first, said) = build(&store, text);
    assert_eq!(steps(&said), (4, 0), "{said}");
    let (again, said) = build(&store, text);
    assert_eq!((again.id(), steps(&said)), (first.id(), (3, 1)), "{said}");
    // Another command: the files are the same.
    let (other, said) = build(&store, &text.replace("\"a\"", "\"b\""));
    assert_eq!((other.config().cmd.as_slice(), steps(&said)), (&["b".to_owned()][..], (3, 1)), "{said}");
    assert_eq!(shell(&store, &other, "cat /one"), shell(&store, &first, "cat /one"));
    // And what follows a step that is done again is done again.
    let (longer, said) = build(&store, &text.replace("CMD", "RUN cat /one >/two\nCMD"));
    assert_eq!(steps(&said), (4, 1), "{said}");
    assert_eq!(shell(&store, &longer, "cat /two"), shell(&store, &first, "cat /one"));
    let (_, said) = build(&store, &text.replace("ENV PATH=/bin", "ENV PATH=/bin A=b"));
    assert_eq!(steps(&said).1, 0, "the environment counts: {said}");
    // An image that is gone is made again.
    store.runtime.remove_image(longer.id()).unwrap();
    let (_, said) = build(&store, &text.replace("CMD", "RUN cat /one >/two\nCMD"));
    assert_eq!(steps(&said), (4, 1), "{said}");
    let mut fresh = Said::new(text);
    fresh.build.set_no_cache().unwrap();
    let (made, said) = fresh.run(&store);
    let made = made.unwrap();
    assert_eq!(steps(&said), (4, 0), "{said}");
    assert_ne!(made.id(), first.id(), "the numbers are others");
    assert_eq!(build(&store, text).0.id(), made.id(), "the new result took the old one's place");
    // Results age from when they were made, not from their last use. Ages are whole seconds.
    let aged = |seconds| {
        let mut said = Said::new(text);
        said.build.set_max_age(Duration::from_secs(seconds)).unwrap();
        steps(&said.run(&store).1).1
    };
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!((aged(3600), aged(0), aged(3600)), (1, 0, 1));
    // What builds have left without a name goes first.
    store.runtime.tag_image(first.id(), "first").unwrap();
    let kept: u64 =
        ["base", "first"].iter().map(|name| store.runtime.find_image(name).unwrap().info().bytes).sum();
    store.runtime.prune_images(kept).unwrap();
    let mut left: Vec<String> =
        store.runtime.list_images().unwrap().into_iter().flat_map(|image| image.tags).collect();
    left.sort_unstable();
    assert_eq!(left, ["docker.io/library/base:latest", "docker.io/library/first:latest"]);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn files_are_copied_as_docker_does() {
    let store = store("copy");
    let directory = context(&store);
    let other = store.scratch.0.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("extra"), "extra\n").unwrap();
    let text = "FROM base\nENV PATH=/bin\nWORKDIR /app\nCOPY app.sh .\nCOPY app.sh /srv\nCOPY tree /tree\n\
                COPY --chown=web:staff --chmod=600 tree/one /owned/\nCOPY --chown=5:6 app.sh /new\n\
                COPY --from=other extra /from/\nRUN cat /app/app.sh /from/extra\n";
    let with = |text: &str| {
        let mut said = Said::new(text);
        said.build.set_context(&directory).unwrap().add_context("other", &other).unwrap();
        said
    };
    let (image, said) = with(text).run(&store);
    let image = image.unwrap();
    assert!(said.contains("echo app\nextra\n"), "{said}");
    let listed = shell(
        &store,
        &image,
        "cd /; stat -c '%n %a %u:%g' app app/app.sh srv srv/app.sh tree tree/one tree/deep/two owned owned/one new; \
         readlink tree/link; ls -a tree; ls -a srv | tail -n 1",
    );
    let expected = "app 755 0:0\napp/app.sh 755 0:0\nsrv 700 7:8\nsrv/app.sh 755 0:0\ntree 755 0:0\ntree/one 640 0:0\n\
                    tree/deep/two 600 0:0\nowned 755 1000:50\nowned/one 600 1000:50\nnew 755 5:6\none\n.\n..\ndeep\nlink\none\n\
                    app.sh\n";
    assert_eq!(listed, expected);
    let (again, said) = with(text).run(&store);
    assert_eq!((again.unwrap().id(), steps(&said).1), (image.id(), 7), "{said}");
    // Times don't count, contents do.
    fs::write(other.join("extra"), "extra\n").unwrap();
    assert_eq!(steps(&with(text).run(&store).1).1, 7);
    fs::write(other.join("extra"), "changed\n").unwrap();
    let (changed, said) = with(text).run(&store);
    assert_eq!(steps(&said).1, 0, "{said}");
    assert_eq!(shell(&store, &changed.unwrap(), "cat /from/extra"), "changed\n");
    for (text, part) in [
        ("FROM base\nCOPY nothing /x\n", "step 2/2 (line 2): COPY nothing /x"),
        ("FROM base\nCOPY --from=none a /x\n", "no context none"),
        ("FROM base\nCOPY --chown=mallory app.sh /x\n", "no user \"mallory\""),
    ] {
        let error = with(text).run(&store).0.unwrap_err();
        assert!(error.message().contains(part), "{error}");
    }
    assert!(failed(&store, "FROM base\nCOPY a /x\n").message().contains("no context"));
    assert_eq!(store.left().0.len(), 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_secret_is_a_file_for_one_step_and_nowhere_else() {
    const VALUE: &str = "correct-horse-battery-staple-7391";
    let store = store("secret");
    let text = "FROM base\nENV PATH=/bin\nRUN --mount=type=secret,id=token stat -L -c '%a %u %s' /run/secrets/token; \
                ls /run/secrets\nRUN --mount=type=secret,id=token,target=/home/web/.netrc,uid=1000,mode=0440 \
                grep -c horse /home/web/.netrc\nUSER web\nRUN --mount=type=secret,id=other echo none: $(ls /run)\n\
                USER 0\nRUN ls -a /run /home /dev/shm; touch /last\n";
    let with = |value: &str| {
        let mut said = Said::new(text);
        said.build.add_secret("token", value.as_bytes()).unwrap();
        said
    };
    let (image, said) = with(VALUE).run(&store);
    let image = image.unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(said.contains(&format!("400 0 {}\ntoken\n", VALUE.len())), "{said}");
    assert!(said.contains("\n1\n") && !said.contains(VALUE), "{said}");
    assert!(said.contains("none:\n"), "a step that may do without it: {said}");
    // Every file of the store, the images' among them.
    let mut scanned = 0;
    let mut directories = vec![store.scratch.0.join("images")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(VALUE.len()).any(|part| part == VALUE.as_bytes());
            assert!(!found, "{}", path.display());
            scanned += 1;
        }
    }
    assert!(scanned > 8, "{scanned}");
    assert_eq!(shell(&store, &image, "ls -d /run/secrets /home/web 2>/dev/null"), "");
    // Another value doesn't make another step.
    assert_eq!(steps(&with("another").run(&store).1).1, 4);
    let missing = failed(&store, "FROM base\nRUN --mount=type=secret,id=token,required=true /bin/true\n");
    assert!(missing.message().contains("secret token: the step needs it"), "{missing}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_step_that_fails_is_named_with_its_last_words() {
    let store = store("fails");
    let text =
        "FROM base\nENV PATH=/bin\nRUN touch /one\nRUN seq 1000; echo so it ends; exit 7\nCMD [\"x\"]\n";
    let error = failed(&store, text);
    assert_eq!(error.code(), Code::Image);
    let message = error.message();
    assert!(
        message.starts_with("step 4/5 (line 4): RUN seq 1000; echo so it ends; exit 7: exit code 7"),
        "{error}"
    );
    assert!(message.contains("no network") && message.ends_with("\n1000\nso it ends"), "{error}");
    assert!(message.len() < 4096, "{}", message.len());
    // The steps before it stay.
    let (_, said) = build(&store, "FROM base\nENV PATH=/bin\nRUN touch /one\n");
    assert_eq!(steps(&said).1, 1, "{said}");
    let error = failed(&store, "FROM base\nRUN [\"/no/such\"]\n");
    assert_eq!(error.code(), Code::Exec, "{error}");
    let error = failed(&store, "FROM base\nHEALTHCHECK CMD x\nVOLUME /x\nFROM other\n");
    assert!(error.message().contains("line 4"), "{error}");
    let error = failed(&store, "FROM scratch\nRUN echo x\n");
    assert!(error.message().contains("step 2/2 (line 2)"), "{error}");
    assert_eq!(store.left().0.len(), 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn an_image_can_begin_with_nothing() {
    let store = store("scratch");
    let directory = context(&store);
    fs::copy(BUSYBOX, directory.join("busybox")).unwrap();
    fs::set_permissions(directory.join("busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut build = Build::new(
        "FROM scratch\nCOPY busybox /bin/sh\nRUN [\"/bin/sh\", \"-c\", \"echo x >/x\"]\nCMD [\"/bin/sh\"]\n",
    );
    build.set_context(&directory).unwrap().set_tag("tests/scratch:1").unwrap();
    let image = store.runtime.build_image(&build).unwrap();
    assert_eq!(image.info().tags, ["docker.io/tests/scratch:1"]);
    assert_eq!(image.config().os, "linux");
    let sandbox = start(&store, &image);
    assert_eq!(sandbox.read_file("/x", &sbx::FileOptions::new()).unwrap(), b"x\n");
    let plain = store.runtime.build_image(&Build::new("FROM scratch\n")).unwrap();
    assert_ne!(plain.id(), image.id());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_step_reaches_what_its_policy_allows_and_nothing_by_default() {
    let store = store("policy");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"from the host\n").unwrap();
    });
    let text = "FROM base\nENV PATH=/bin\nRUN nc 192.0.0.1 4000 </dev/null >/got\n";
    let error = failed(&store, text);
    assert!(error.message().contains("no network"), "{error}");
    let mut config = Config::new();
    config
        .set_policy(&Policy::allowlist())
        .unwrap()
        .add_host_service(4000, &format!("127.0.0.1:{port}"))
        .unwrap();
    let mut build = Build::new(text);
    build.set_config(&config).unwrap();
    let image = store.runtime.build_image(&build).unwrap();
    server.join().unwrap();
    assert_eq!(shell(&store, &image, "cat /got"), "from the host\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_build_that_is_cancelled_or_late_leaves_nothing() {
    let store = store("cancel");
    let text = "FROM base\nENV PATH=/bin\nRUN echo begun; sleep 7391\n";
    let mut said = Said::new(text);
    let queue = Queue::new(16).unwrap();
    let mut config = Config::new();
    config.set_policy(&Policy::blocked()).unwrap().set_queue(&queue, 1).unwrap();
    said.build.set_config(&config).unwrap();
    let operation = store.runtime.build_image_begin(&said.build, None).unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 256];
    while !seen.contains("begun\n") {
        let length = said.reader.read(&mut buffer).unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    // Another one that waits for this one's step has a time of its own.
    let mut late = Build::new(text);
    late.set_timeout(Duration::from_secs(1)).unwrap();
    let late = store.runtime.build_image_begin(&late, None).unwrap();
    let error = late.wait(PATIENCE).unwrap_err();
    assert!(error.message().contains("longer than its timeout"), "{error}");
    operation.cancel();
    assert_eq!(operation.wait(PATIENCE).unwrap_err().code(), Code::Closed);
    eventually("nothing is being written", || store.left().0.is_empty());
    eventually("the sandbox is gone", || {
        queue.next().is_some_and(|event| matches!(event.event, Event::Exited { .. }))
    });
    let mut late = Build::new(text);
    late.set_timeout(Duration::from_secs(2)).unwrap();
    let begin = Instant::now();
    let error = store.runtime.build_image(&late).unwrap_err();
    assert_eq!(error.code(), Code::TimedOut, "{error}");
    assert!(begin.elapsed() < Duration::from_secs(20));
    eventually("nothing is being written", || store.left().0.is_empty());
    assert_eq!(store.left().1.len(), 2, "the base's file and its record");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn progress_counts_steps_and_the_end_is_an_event() {
    let store = store("events");
    let queue = Queue::new(100).unwrap();
    let build = Build::new("FROM base\nENV PATH=/bin\nRUN sleep 1\n");
    let operation = store.runtime.build_image_begin(&build, Some((&queue, 9))).unwrap();
    operation.wait(PATIENCE).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
    let mut counted = Vec::new();
    for event in &events {
        assert_eq!(event.cookie, 9);
        if let Event::Progress { bytes_done, bytes_total: 3, detail, .. } = &event.event {
            counted.push((*bytes_done, detail.as_str()));
        }
    }
    assert!(counted.contains(&(2, "[3/3] RUN sleep 1")) && counted.len() < 20, "{events:?}");
    assert!(counted.is_sorted_by_key(|(done, _)| *done), "{events:?}");
    assert!(
        matches!(events.last().unwrap().event, Event::OperationDone { result: Ok(()), .. }),
        "{events:?}"
    );
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn what_is_built_twice_at_once_is_built_once_by_a_runtime_and_works_with_two() {
    let store = store("twice");
    let other = open(&store.scratch.0);
    let at_once = |runtimes: [&Runtime; 2], word: &str| {
        let text = format!("FROM base\nENV PATH=/bin\nRUN echo {word} >/one\nRUN cat /one >/two\n");
        let images: [Image; 2] = std::thread::scope(|scope| {
            let builds =
                runtimes.map(|runtime| scope.spawn(|| runtime.build_image(&Build::new(&text)).unwrap()));
            builds.map(|build| build.join().unwrap())
        });
        for image in &images {
            assert_eq!(shell(&store, image, "cat /two"), format!("{word}\n"));
        }
        assert_eq!(steps(&build(&store, &text).1).1, 2);
        images
    };
    let [first, second] = at_once([&store.runtime, &store.runtime], "same");
    assert_eq!(first.id(), second.id(), "one has waited for the other");
    at_once([&store.runtime, &other], "else");
    assert_eq!(store.left().0.len(), 0);
}

/// Every step that is remembered has an image that is there.
fn steps_are_whole(store: &TestStore) {
    let index = fs::read(store.scratch.0.join("images/v1/steps.json")).unwrap_or_else(|_| b"{}".to_vec());
    let index: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&index).unwrap();
    let images: Vec<String> =
        store.runtime.list_images().unwrap().into_iter().map(|image| image.id).collect();
    for step in index.values() {
        let id = step["id"].as_str().unwrap();
        assert!(images.iter().any(|image| image == id), "{id} is remembered and not there");
    }
}

/// Two processes build in one store at once: the same, and something else. One of them is killed.
#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn one_process_that_is_killed_is_no_hindrance_to_another_that_builds() {
    const HOST: &str = "SBX_TEST_BUILD_BESIDE";
    const SELF: &str = "one_process_that_is_killed_is_no_hindrance_to_another_that_builds";
    const SAME: &str =
        "FROM base\nENV PATH=/bin\nRUN seq 100000 >/one\nRUN cat /one /one >/two\nRUN rm /one\n";
    const OTHER: &str =
        "FROM base\nENV PATH=/bin\nRUN seq 100000 >/one\nRUN echo other >/two\nCOPY app.sh /\nRUN rm /one\n";
    if let Some(directory) = std::env::var_os(HOST) {
        let runtime = open(directory.as_ref());
        let mut build = Build::new(SAME);
        build.set_tag("same").unwrap();
        let image = runtime.build_image(&build).unwrap();
        println!("BUILT {}", image.id());
        return;
    }
    let store = store("beside");
    let context = context(&store);
    let base = store.runtime.find_image("base").unwrap();
    let mut killed = 0;
    // The last one is not killed.
    for round in 0..9_u64 {
        let of = if round % 2 == 0 { SAME } else { OTHER };
        let mut host = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", SELF, "--nocapture"])
            .env(HOST, &store.scratch.0)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut build = Build::new(of);
        build.set_context(&context).unwrap().set_tag(if round % 2 == 0 { "same" } else { "other" }).unwrap();
        let operation = store.runtime.build_image_begin(&build, None).unwrap();
        if round < 8 {
            // Not a wait for something: a moment in the build, another one each time.
            std::thread::sleep(Duration::from_millis(60 + round * 110));
            killed += usize::from(host.try_wait().unwrap().is_none());
            host.kill().unwrap();
        }
        let said = host.wait_with_output().unwrap();
        let image = operation.wait(PATIENCE).unwrap();
        let two = shell(&store, &image, "tail -n 1 /two; ls -d /one 2>/dev/null");
        assert_eq!(two, if round % 2 == 0 { "100000\n" } else { "other\n" }, "{round}");
        if round == 8 {
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            let theirs = said.lines().find_map(|line| line.split_once("BUILT ")).unwrap().1.to_owned();
            let theirs = store.runtime.find_image(&theirs).unwrap();
            assert_eq!(shell(&store, &theirs, "tail -n 1 /two"), "100000\n");
        }
        // The dead host's confined processes hold their files for a moment.
        eventually("what the dead one has left is collected", || {
            open(&store.scratch.0).list_images().unwrap();
            store.left().0.is_empty()
        });
        steps_are_whole(&store);
        for image in store.runtime.list_images().unwrap() {
            store.runtime.find_image(&image.id).unwrap();
        }
        // What is remembered now may be the other's steps, and is as good.
        let (again, said) = build_in(&store, of, &context);
        assert_eq!(shell(&store, &again, "tail -n 1 /two; ls -d /one 2>/dev/null"), two, "{round}");
        assert!(steps(&said).1 > 0, "{said}");
        for image in store.runtime.list_images().unwrap() {
            if image.id != base.id() {
                store.runtime.remove_image(&image.id).unwrap();
            }
        }
        steps_are_whole(&store);
    }
    assert!(killed > 3, "{killed}");
    assert_eq!(store.left().1.len(), 2, "the base's file and its record");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_host_that_is_killed_leaves_nothing_that_is_believed() {
    const HOST: &str = "SBX_TEST_BUILD_HOST";
    const SELF: &str = "a_host_that_is_killed_leaves_nothing_that_is_believed";
    const TEXT: &str =
        "FROM base\nENV PATH=/bin\nRUN seq 100000 >/one\nRUN cat /one /one >/two\nRUN rm /one\n";
    if let Some(directory) = std::env::var_os(HOST) {
        let _ = open(directory.as_ref()).build_image(&Build::new(TEXT));
        return;
    }
    let store = store("killed");
    for round in 1..=6 {
        let mut host = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", SELF, "--nocapture"])
            .env(HOST, &store.scratch.0)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Not a wait for something: a moment in the build, another one each time.
        std::thread::sleep(Duration::from_millis(round * 130));
        host.kill().unwrap();
        host.wait().unwrap();
        // Whatever is believed by now is whole.
        for image in store.runtime.list_images().unwrap() {
            store.runtime.find_image(&image.id).unwrap();
        }
    }
    collected(&store.scratch.0);
    let (image, _) = build(&store, TEXT);
    assert_eq!(shell(&store, &image, "ls /; tail -n 1 /two").lines().last(), Some("100000"));
    assert_eq!(shell(&store, &image, "ls -d /one 2>/dev/null"), "");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_base_that_the_store_has_not_is_pulled_with_the_users_login() {
    const HOST: &str = "SBX_TEST_BUILD_PULLS";
    const SELF: &str = "a_base_that_the_store_has_not_is_pulled_with_the_users_login";
    if let (Some(directory), Ok(reference)) = (std::env::var_os(HOST), std::env::var("SBX_TEST_REFERENCE")) {
        let mut said = Said::new(&format!("FROM {reference}\nRUN echo on $GREETING\n"));
        said.build.set_tag("pulled").unwrap();
        let runtime = open(directory.as_ref());
        let image = runtime.build_image(&said.build).unwrap();
        assert_eq!(image.info().tags, ["docker.io/library/pulled:latest"]);
        runtime.find_image(&reference).unwrap();
        drop(said.build);
        let mut text = String::new();
        said.reader.read_to_string(&mut text).unwrap();
        assert!(text.starts_with(&format!("pulling {reference}\n[1/2] FROM ")), "{text}");
        assert!(text.contains("\non hello\n"), "{text}");
        return;
    }
    let (store, registry) = (TestStore::new("pulled-base"), Registry::new("build-registry"));
    let reference = registry.push(&Made::busybox(), "team/box", "1");
    let home = store.scratch.0.join("home");
    fs::create_dir_all(home.join(".docker")).unwrap();
    let (host, _) = reference.split_once('/').unwrap();
    let login = serde_json::json!({"auths": {host: {"username": USER, "password": PASSWORD}}});
    fs::write(home.join(".docker/config.json"), login.to_string()).unwrap();
    fs::write(home.join("ca.pem"), &registry.ca_pem).unwrap();
    let host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", SELF, "--nocapture"])
        .env(HOST, &store.scratch.0)
        .env("SBX_TEST_REFERENCE", &reference)
        .env("HOME", &home)
        .env("SSL_CERT_FILE", home.join("ca.pem"))
        .output()
        .unwrap();
    assert!(host.status.success(), "{}", String::from_utf8_lossy(&host.stderr));
}
