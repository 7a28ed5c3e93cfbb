//! What Dockerfiles say, and what is refused. One file: the tests share how they read one, and nothing else.

use super::*;

fn arguments(args: &[(&str, &str)]) -> Vec<(String, String)> {
    args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn config(env: &[(&str, &str)], working_dir: &str) -> ImageConfig {
    ImageConfig { env: arguments(env), working_dir: Some(working_dir.to_owned()), ..ImageConfig::default() }
}

fn recipe_with(text: &str, args: &[(&str, &str)], base: &ImageConfig) -> Result<Recipe> {
    Dockerfile::parse(text, &arguments(args))?.resolve(base)
}

fn recipe(text: &str) -> Recipe {
    recipe_with(text, &[], &ImageConfig::default()).unwrap()
}

/// What the instructions behind `FROM a` do.
fn kinds(text: &str) -> Vec<StepKind> {
    recipe(&format!("FROM a\n{text}")).steps.into_iter().map(|step| step.kind).collect()
}

/// The one program that is run.
fn run(text: &str) -> Run {
    match kinds(text).pop() {
        Some(StepKind::Run(run)) => run,
        other => panic!("{text}: {other:?}"),
    }
}

fn copy(text: &str) -> Copy {
    match kinds(text).pop() {
        Some(StepKind::Copy(copy)) => copy,
        other => panic!("{text}: {other:?}"),
    }
}

/// The error of a Dockerfile, without `Dockerfile line `.
fn refused(text: &str) -> (Code, String) {
    let error = recipe_with(text, &[], &ImageConfig::default()).expect_err(text);
    let text = error.message();
    (error.code(), text.strip_prefix("Dockerfile line ").unwrap_or(text).to_owned())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    arguments(pairs)
}

#[test]
fn a_dockerfile_as_people_write_them_is_read() {
    let text = "\
# syntax=docker/dockerfile:1
ARG VERSION=3.12
FROM python:${VERSION}-slim AS base

# What the server needs.
ENV PYTHONUNBUFFERED=1 \\
    APP_HOME=/srv/app
WORKDIR $APP_HOME
COPY requirements.txt ./
RUN pip install --no-cache-dir \\
    # from the index
    -r requirements.txt && \\

    rm -rf /root/.cache
COPY --chown=1000:1000 --chmod=0755 . .
USER 1000:1000
EXPOSE 8080 9000-9001/udp
LABEL org.example.name=\"the server\" version=1
STOPSIGNAL SIGINT
ENTRYPOINT [\"python\", \"-m\"]
CMD [\"server\", \"$APP_HOME\"]
";
    let file = Dockerfile::parse(text, &[]).unwrap();
    assert_eq!(file.base(), &Base::Image("python:3.12-slim".to_owned()));
    let recipe = file.resolve(&config(&[("PATH", "/bin")], "/")).unwrap();
    assert_eq!(recipe.warnings, [""; 0]);
    let lines: Vec<usize> = recipe.steps.iter().map(|step| step.line).collect();
    assert_eq!(lines, [6, 8, 9, 10, 15, 16, 17, 18, 19, 20, 21]);
    assert_eq!(recipe.steps[1].text, "WORKDIR $APP_HOME");
    let kinds: Vec<StepKind> = recipe.steps.into_iter().map(|step| step.kind).collect();
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let plain_copy = Copy {
        context: None,
        sources: strings(&["requirements.txt"]),
        excludes: Vec::new(),
        destination: "/srv/app/".to_owned(),
        chown: None,
        chmod: None,
        is_add: false,
    };
    let expected = [
        StepKind::Env(pairs(&[("PYTHONUNBUFFERED", "1"), ("APP_HOME", "/srv/app")])),
        StepKind::Workdir("/srv/app".to_owned()),
        StepKind::Copy(plain_copy.clone()),
        StepKind::Run(Run {
            argv: strings(&[
                "/bin/sh",
                "-c",
                "pip install --no-cache-dir     -r requirements.txt &&     rm -rf /root/.cache",
            ]),
            args: Vec::new(),
            proxies: Vec::new(),
            secrets: Vec::new(),
        }),
        StepKind::Copy(Copy {
            sources: strings(&["."]),
            chown: Some("1000:1000".to_owned()),
            chmod: Some(0o755),
            ..plain_copy
        }),
        StepKind::User("1000:1000".to_owned()),
        StepKind::Expose(strings(&["8080/tcp", "9000/udp", "9001/udp"])),
        StepKind::Label(pairs(&[("org.example.name", "the server"), ("version", "1")])),
        StepKind::StopSignal("SIGINT".to_owned()),
        StepKind::Entrypoint { argv: strings(&["python", "-m"]), keeps_cmd: false },
        StepKind::Cmd(strings(&["server", "$APP_HOME"])),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn lines_end_and_go_on_as_in_docker() {
    let shell = |text: &str| run(text).argv.pop().unwrap();
    assert_eq!(shell("RUN a \\\n b"), "a  b");
    assert_eq!(shell("RUN a \\  \t\n b"), "a  b");
    assert_eq!(shell("RUN a \\\r\n b\r\n"), "a  b");
    assert_eq!(shell("RUN a\\\\\n"), "a\\\\");
    assert_eq!(shell("RUN a \\\n# comment\n  # and one\n\n b"), "a  b");
    assert_eq!(shell("RUN a # b"), "a # b");
    assert_eq!(shell("RUN a \\"), "a");
    assert_eq!(shell("\t run  a"), "a");
    assert_eq!(kinds("# nothing\n\n").len(), 0);
    let file = Dockerfile::parse("\u{feff}FROM a", &[]).unwrap();
    assert_eq!(file.base(), &Base::Image("a".to_owned()));
}

#[test]
fn directives_stand_at_the_very_beginning() {
    let shell = |text: &str| match recipe(text).steps.pop().unwrap().kind {
        StepKind::Run(mut run) => run.argv.pop().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(shell("# escape=`\nFROM a\nRUN a `\n b \\\n"), "a  b \\");
    assert_eq!(shell("#Escape = ` \nFROM a\nRUN a `\n b"), "a  b");
    assert_eq!(shell("# a comment\n# escape=`\nFROM a\nRUN a \\\n b"), "a  b");
    assert_eq!(shell("\n# escape=`\nFROM a\nRUN a \\\n b"), "a  b");
    assert_eq!(shell("# unknown=1\n# escape=`\nFROM a\nRUN a \\\n b"), "a  b");
    assert_eq!(shell("# check=skip=all\n# escape=`\nFROM a\nRUN a `\n b"), "a  b");
    assert_eq!(refused("# escape=x\nFROM a").1, "1: # escape=x: must be \\ or `");
    assert!(refused("# escape=`\n# escape=`\nFROM a").1.starts_with("2: # escape=`: is the second one"));
    assert_eq!(refused("# syntax=example.com/other\nFROM a").0, Code::Unsupported);
    for syntax in ["docker/dockerfile:1.7-labs", "docker.io/docker/dockerfile@sha256:ab"] {
        assert!(Dockerfile::parse(&format!("# syntax={syntax}\nFROM a"), &[]).is_ok());
    }
}

#[test]
fn a_command_has_two_forms() {
    assert_eq!(run("RUN echo $HOME").argv, ["/bin/sh", "-c", "echo $HOME"]);
    assert_eq!(run("RUN [\"a\", \"$B\", \"c d\"]").argv, ["a", "$B", "c d"]);
    assert_eq!(run("RUN [ -f /x ] && y").argv, ["/bin/sh", "-c", "[ -f /x ] && y"]);
    assert_eq!(run("RUN [\"a\"] && b").argv, ["/bin/sh", "-c", "[\"a\"] && b"]);
    assert_eq!(run("SHELL [\"/bin/bash\", \"-ec\"]\nRUN a").argv, ["/bin/bash", "-ec", "a"]);
    assert_eq!(kinds("CMD []"), [StepKind::Cmd(Vec::new())]);
    assert_eq!(recipe("FROM a\nRUN ['a', 'b']").warnings.len(), 1);
    let entrypoints = kinds("CMD a\nENTRYPOINT [\"b\"]");
    assert!(matches!(entrypoints[1], StepKind::Entrypoint { keeps_cmd: true, .. }));
    for (text, part) in [
        ("RUN", "2: RUN : must have a command"),
        ("RUN []", "2: RUN []: must have a command"),
        ("RUN [1]", "2: RUN [1]: 1 must be a string"),
        ("RUN [\"a\\u0000\"]", "contains a NUL byte"),
        ("CMD", "2: CMD : must have a command"),
        ("SHELL /bin/bash", "2: SHELL /bin/bash: must be a JSON array"),
        ("RUN a\0b", "2: contains a NUL byte"),
    ] {
        let (_, error) = refused(&format!("FROM a\n{text}"));
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn here_documents_are_for_run() {
    assert_eq!(run("RUN <<EOF\necho a\necho b\nEOF\n").argv[2], "echo a\necho b\n");
    assert_eq!(run("RUN <<-EOF\n\techo a\n\tEOF\n").argv[2], "echo a\n");
    assert_eq!(
        run("RUN python3 <<'EOF' > /x\nprint(\"$X\") # \\\nEOF\n").argv[2],
        "python3 <<'EOF' > /x\nprint(\"$X\") # \\\nEOF"
    );
    assert_eq!(run("RUN cat <<A <<B\na\nA\nb\nB").argv[2], "cat <<A <<B\na\nA\nb\nB");
    assert_eq!(run("RUN cat \"<<A\"").argv[2], "cat \"<<A\"");
    assert_eq!(kinds("RUN <<EOF\nCOPY a\nEOF\nUSER b").len(), 2);
    for (text, part) in [
        ("RUN <<EOF\nx", "2: RUN <<EOF: no line \"EOF\" ends it"),
        ("RUN <<EOF\n#!/bin/x\nEOF", "a here-document that begins with #!"),
        ("COPY <<EOF /x\na\nEOF", "2: COPY <<EOF: here-documents are for RUN only here"),
    ] {
        assert!(refused(&format!("FROM a\n{text}")).1.contains(part), "{text}");
    }
}

#[test]
fn variables_are_replaced_where_docker_does() {
    let base = config(&[("PATH", "/bin"), ("OLD", "old")], "/srv");
    let text = "\
FROM a
ENV A=1 B=$OLD C=\"x $A\"
ENV A=2
ENV D=$A E='$A' F=\\$A G=${NONE:-g} PATH=/x:$PATH
ENV old form of \"it\"
WORKDIR sub/$A
WORKDIR ../${B}
LABEL $A=$B
USER ${NONE:+x}u
COPY $A \"$C\" to/$D/
EXPOSE $A ${A}0
RUN echo $A
CMD echo $A
";
    let kinds: Vec<StepKind> =
        recipe_with(text, &[], &base).unwrap().steps.into_iter().map(|step| step.kind).collect();
    assert_eq!(kinds[0], StepKind::Env(pairs(&[("A", "1"), ("B", "old"), ("C", "x ")])));
    let expected = [("D", "2"), ("E", "$A"), ("F", "$A"), ("G", "g"), ("PATH", "/x:/bin")];
    assert_eq!(kinds[2], StepKind::Env(pairs(&expected)));
    assert_eq!(kinds[3], StepKind::Env(pairs(&[("old", "form of it")])));
    assert_eq!(kinds[4], StepKind::Workdir("/srv/sub/2".to_owned()));
    assert_eq!(kinds[5], StepKind::Workdir("/srv/sub/old".to_owned()));
    assert_eq!(kinds[6], StepKind::Label(pairs(&[("2", "old")])));
    assert_eq!(kinds[7], StepKind::User("u".to_owned()));
    let StepKind::Copy(copy) = &kinds[8] else { panic!("{:?}", kinds[8]) };
    // White space separates before quotes and variables are looked at.
    assert_eq!(
        (&copy.sources[..], copy.destination.as_str()),
        (&["2".to_owned(), "x ".to_owned()][..], "/srv/sub/old/to/2/")
    );
    assert_eq!(kinds[9], StepKind::Expose(vec!["2/tcp".to_owned(), "20/tcp".to_owned()]));
    assert!(matches!(&kinds[10], StepKind::Run(run) if run.argv[2] == "echo $A"));
    assert_eq!(kinds[11], StepKind::Cmd(vec!["/bin/sh".to_owned(), "-c".to_owned(), "echo $A".to_owned()]));
}

#[test]
fn an_image_without_a_path_has_dockers() {
    let kinds = kinds("ENV PATH=/x:$PATH");
    assert!(matches!(&kinds[0], StepKind::Env(env) if env[0].1.starts_with("/x:/usr/local/sbin:")));
}

#[test]
fn build_arguments_are_in_scope_behind_their_arg() {
    let text = "\
ARG IMAGE=a
ARG TAG=1 FULL=$IMAGE:$TAG
ARG UNUSED
FROM $FULL
RUN first
ARG TAG
ARG NAME=default OTHER=${NAME}
RUN second
ENV NAME=env
ENV IS=$NAME-$TAG-$IMAGE
RUN third
ARG NAME=again
RUN fourth
";
    let runs = |args: &[(&str, &str)]| {
        let recipe = recipe_with(text, args, &ImageConfig::default()).unwrap();
        let runs: Vec<Vec<(String, String)>> = recipe
            .steps
            .iter()
            .filter_map(|step| match &step.kind {
                StepKind::Run(run) => Some(run.args.clone()),
                _ => None,
            })
            .collect();
        let env = recipe.steps.iter().rev().find_map(|step| match &step.kind {
            StepKind::Env(env) => Some(env[0].1.clone()),
            _ => None,
        });
        (runs, env.unwrap())
    };
    let base = |args: &[(&str, &str)]| Dockerfile::parse(text, &arguments(args)).unwrap().base().clone();
    assert_eq!(base(&[]), Base::Image("a:1".to_owned()));
    assert_eq!(base(&[("TAG", "2"), ("IMAGE", "b")]), Base::Image("b:2".to_owned()));
    let (plain, env) = runs(&[]);
    assert_eq!(plain[0], []);
    assert_eq!(plain[1], pairs(&[("TAG", "1"), ("NAME", "default"), ("OTHER", "default")]));
    assert_eq!(plain[2], pairs(&[("TAG", "1"), ("OTHER", "default")]));
    assert_eq!(plain[3], plain[2]);
    assert_eq!(env, "env-1-");
    let (passed, env) = runs(&[("NAME", "passed"), ("TAG", "")]);
    assert_eq!(passed[1], pairs(&[("TAG", ""), ("NAME", "passed"), ("OTHER", "passed")]));
    assert_eq!(env, "env--");
}

#[test]
fn some_build_arguments_need_no_declaration() {
    let base = ImageConfig::default();
    let args = [("HTTP_PROXY", "http://p"), ("no_proxy", "x"), ("TYPO", "1")];
    let recipe = recipe_with("FROM a\nARG no_proxy\nRUN a", &args, &base).unwrap();
    let StepKind::Run(run) = &recipe.steps[0].kind else { panic!("{recipe:?}") };
    assert_eq!(run.proxies, pairs(&[("HTTP_PROXY", "http://p")]));
    assert_eq!(run.args, pairs(&[("no_proxy", "x")]));
    assert_eq!(recipe.warnings, ["the build argument TYPO is not used: the Dockerfile has no ARG TYPO"]);
    let run = run_args("FROM a\nARG TARGETOS\nARG TARGETARCH\nRUN a");
    assert_eq!(run[0], ("TARGETOS".to_owned(), "linux".to_owned()));
    let file = Dockerfile::parse("FROM a-$TARGETOS", &[]).unwrap();
    assert_eq!(file.base(), &Base::Image("a-linux".to_owned()));
    for args in [[("", "x")], [("a=b", "x")], [("a", "x\0")]] {
        assert_eq!(recipe_with("FROM a", &args, &base).unwrap_err().code(), Code::Invalid);
    }
}

fn run_args(text: &str) -> Vec<(String, String)> {
    match recipe(text).steps.pop().unwrap().kind {
        StepKind::Run(run) => run.args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn secrets_are_mounted_for_one_step() {
    let run = run(
        "ARG ID=token\nRUN --mount=type=secret,id=$ID --mount=type=secret,id=b,required=true cat /run/secrets/token",
    );
    let ids: Vec<(&str, bool)> =
        run.secrets.iter().map(|secret| (secret.id.as_str(), secret.required)).collect();
    assert_eq!(ids, [("token", false), ("b", true)]);
    assert_eq!(run.argv[2], "cat /run/secrets/token");
    let (code, text) = refused("FROM a\nRUN --mount=type=cache,target=/x a");
    assert_eq!(
        (code, text.starts_with("2: RUN --mount=type=cache,target=/x: type=cache isn't")),
        (Code::Unsupported, true)
    );
    assert!(kinds("RUN --network=default --security=sandbox a").len() == 1);
    assert_eq!(refused("FROM a\nRUN --network=none a").0, Code::Unsupported);
    assert_eq!(refused("FROM a\nRUN --device=x a").0, Code::Unsupported);
    assert!(refused("FROM a\nRUN --mount a").1.contains("--mount: must have a value"));
}

#[test]
fn copies_name_their_sources_and_their_destination() {
    let copy_of = |text: &str| {
        let copy = copy(text);
        (copy.sources.join("|"), copy.destination)
    };
    for (text, sources, destination) in [
        ("COPY a b", "a", "/b"),
        ("COPY a b c/", "a|b", "/c/"),
        ("COPY a .", "a", "/"),
        ("COPY a /x/.", "a", "/x/"),
        ("COPY a /x/../y/", "a", "/y/"),
        ("COPY [\"a b\", \"c d/\"]", "a b", "/c d/"),
        ("COPY --link a b", "a", "/b"),
        ("ADD a b", "a", "/b"),
        ("WORKDIR /w\nCOPY a ./", "a", "/w/"),
        ("WORKDIR /w\nCOPY a ../b", "a", "/b"),
    ] {
        assert_eq!(copy_of(text), (sources.to_owned(), destination.to_owned()), "{text}");
    }
    let full = copy("COPY --from=assets --chown=app:app --chmod=644 --exclude=*.md --exclude=x a b");
    assert_eq!(full.context.as_deref(), Some("assets"));
    assert_eq!((full.chown.as_deref(), full.chmod), (Some("app:app"), Some(0o644)));
    assert_eq!(full.excludes, ["*.md", "x"]);
    let file = Dockerfile::parse("FROM a\nCOPY --from=x a b\nCOPY a b\nCOPY --from=y a b", &[]).unwrap();
    assert_eq!(file.contexts().collect::<Vec<_>>(), ["x", "y"]);
    for (text, part) in [
        ("COPY a", "must have a source and a destination"),
        ("COPY a b c", "the destination must end with a /"),
        ("COPY --chmod=u+x a b", "--chmod=u+x: must be an octal number"),
        ("COPY --chmod=17777 a b", "must be an octal number"),
        ("COPY --parents a b", "--parents: isn't supported: write a COPY for each directory"),
        ("COPY --from=$X a b", "variables are not replaced here"),
        ("COPY --from a b", "--from: must have a value: --from=VALUE"),
        ("COPY --chown=1 --chown=2 a b", "--chown is there twice"),
        ("ADD --from=x a b", "--from=x: isn't supported"),
        ("ADD https://example.com/x /x", "is no file of the build context: download it in a RUN"),
        ("ADD git@github.com:a/b.git /x", "is no file of the build context"),
        ("COPY $NONE b", "is empty"),
        ("COPY \"a b\" c", "a \" has no second one"),
    ] {
        assert!(refused(&format!("FROM a\n{text}")).1.contains(part), "{text}");
    }
}

#[test]
fn what_is_not_supported_says_so() {
    for (text, code, part) in [
        ("", Code::Invalid, "the Dockerfile has no FROM"),
        ("RUN a\nFROM b", Code::Invalid, "1: RUN a: only ARG can stand before FROM"),
        ("FROM", Code::Invalid, "1: FROM : must be FROM IMAGE"),
        ("FROM a b c", Code::Invalid, "must be FROM IMAGE or FROM IMAGE AS NAME"),
        ("FROM a as 1", Code::Invalid, "the stage's name \"1\""),
        ("FROM $NONE", Code::Invalid, "1: FROM $NONE: is empty"),
        ("FROM --platform=linux/arm64 a", Code::Unsupported, "--platform=linux/arm64 isn't supported"),
        ("FROM a AS x\nFROM b", Code::Unsupported, "2: FROM b: a second stage isn't supported"),
        ("FROM a\nONBUILD RUN x", Code::Unsupported, "2: ONBUILD RUN x: isn't supported"),
        ("FROM a\nFETCH x", Code::Invalid, "2: \"fetch\" is no instruction: there are FROM, RUN"),
        ("FROM a\nENV", Code::Invalid, "2: ENV : must have a value"),
        ("FROM a\nENV a", Code::Invalid, "must be ENV NAME=VALUE"),
        ("FROM a\nENV a=1 b", Code::Invalid, "\"b\" has no ="),
        ("FROM a\nENV =1", Code::Invalid, "\"=1\" has no name"),
        ("FROM a\nENV $X=1", Code::Invalid, "is empty"),
        ("FROM a\nARG =1", Code::Invalid, "must have a name"),
        ("FROM a\nUSER --x y", Code::Invalid, "takes no option --x"),
        ("FROM a\nEXPOSE 0", Code::Invalid, "EXPOSE 0: must be a port from 1 to 65535"),
        ("FROM a\nEXPOSE 80/icmp", Code::Invalid, "the protocol must be tcp, udp or sctp"),
        ("FROM a\nEXPOSE 9-8", Code::Invalid, "the range must go upwards"),
        ("FROM a\nEXPOSE 1-65535", Code::Invalid, "more than 4096 ports"),
        ("FROM a\nSTOPSIGNAL now", Code::Invalid, "must be a signal such as SIGTERM"),
        ("FROM a\nSTOPSIGNAL 65", Code::Invalid, "must be a signal"),
        ("FROM a\nUSER ${X:?give a user}", Code::Invalid, "2: USER ${X:?give a user}: X: give a user"),
    ] {
        let (found, error) = refused(text);
        assert_eq!(found, code, "{text}: {error}");
        assert!(error.contains(part), "{text}: {error}");
    }
    let ignored = recipe("FROM a\nVOLUME /x\nMAINTAINER me\nHEALTHCHECK CMD true\nUSER b");
    assert_eq!(ignored.steps.len(), 1);
    let starts: Vec<&str> = ignored.warnings.iter().map(|text| &text[..text.find(':').unwrap()]).collect();
    let expected = ["line 2: VOLUME", "line 3: MAINTAINER", "line 4: HEALTHCHECK"];
    for (warning, part) in ignored.warnings.iter().zip(expected) {
        assert!(warning.contains(&format!("{part} is ignored")), "{starts:?}");
    }
}

#[test]
fn everything_has_a_bound() {
    let limit = |text: &str| recipe_with(text, &[], &ImageConfig::default()).unwrap_err();
    assert_eq!(limit(&"#".repeat(1024 * 1024 + 1)).code(), Code::Limit);
    assert_eq!(limit(&format!("FROM a\n{}", "USER b\n".repeat(1000))).code(), Code::Limit);
    assert_eq!(recipe(&format!("FROM a\n{}", "USER b\n".repeat(999))).steps.len(), 999);
    let long = "x".repeat(lines::MAX_LINE_BYTES);
    assert!(limit(&format!("FROM a\nRUN {long}")).message().contains("is longer than"));
    assert!(limit(&format!("FROM a\nRUN <<E\n{long}\nE")).message().contains("is longer than"));
    // Each doubles the one before.
    let doubled: String = (0..40).map(|at| format!("ENV V{}=\"x$V{at}$V{at}\"\n", at + 1)).collect();
    assert!(limit(&format!("FROM a\n{doubled}")).message().contains("with its variables replaced"));
    let value = "x".repeat(100_000);
    let many = format!("ENV X={value}\nENV {}", (0..200).map(|at| format!("V{at}=$X ")).collect::<String>());
    assert_eq!(limit(&format!("FROM a\n{many}")).code(), Code::Limit);
    let args: Vec<(String, String)> = (0..100).map(|at| (format!("A{at}"), value.clone())).collect();
    assert_eq!(Dockerfile::parse("FROM a", &args).unwrap_err().code(), Code::Limit);
    let declared: String = (0..20).map(|at| format!("ARG A{at}\n")).collect();
    let runs = "RUN a\n".repeat(500);
    let file = Dockerfile::parse(&format!("FROM a\n{declared}{runs}"), &args[..20]).unwrap();
    assert_eq!(file.resolve(&ImageConfig::default()).unwrap_err().code(), Code::Limit);
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_its_line(text in "(FROM a\n)?([A-Z]{3,6} [\\PC]{0,20}\n){0,4}") {
        if let Err(error) = Dockerfile::parse(&text, &[]).and_then(|file| file.resolve(&ImageConfig::default())) {
            assert!(error.message().contains("Dockerfile"), "{error}");
        }
    }
}

#[test]
fn arguments_are_bounded_before_from_as_after_it() {
    let long = format!("ARG x={}\n", "x".repeat(100_000));
    let names = |count: usize, value: &str| -> String {
        (0..count).fold("ARG".to_owned(), |text, number| format!("{text} a{number}={value}"))
    };
    let code =
        |text: String| recipe_with(&text, &[], &ImageConfig::default()).map_err(|error| error.code()).err();
    for (count, value, expected) in
        [(50, "$x", None), (500, "$x", Some(Code::Limit)), (2000, "1", Some(Code::Limit))]
    {
        let args = names(count, value);
        assert_eq!(code(format!("{long}{args}\nFROM a\n")), expected, "{count} before FROM");
        assert_eq!(code(format!("FROM a\n{long}{args}\n")), expected, "{count} behind FROM");
    }
}

#[test]
fn what_each_line_repeats_counts() {
    let repeated = |text: &str, line: &str| {
        let text = format!("FROM a\n{text}\n{}", format!("{line}\n").repeat(400));
        recipe_with(&text, &[], &ImageConfig::default()).map_err(|error| error.code()).err()
    };
    assert_eq!(repeated(&format!("WORKDIR /{}", "w".repeat(100_000)), "COPY a b"), Some(Code::Limit));
    assert_eq!(repeated(&format!("WORKDIR /{}", "w".repeat(100_000)), "WORKDIR ./a"), Some(Code::Limit));
    assert_eq!(repeated(&format!("SHELL [{}\"\"]", "\"\",".repeat(20_000)), "RUN a"), Some(Code::Limit));
    assert_eq!(repeated("WORKDIR /w", "COPY a b"), None);
}

#[test]
fn a_shell_is_the_images() {
    let shell = vec!["/bin/bash".to_owned(), "-c".to_owned()];
    assert_eq!(kinds("SHELL [\"/bin/bash\", \"-c\"]"), [StepKind::Shell(shell.clone())]);
    let base = ImageConfig { shell, ..ImageConfig::default() };
    let recipe = recipe_with("FROM a\nRUN x\nSHELL [\"/bin/sh\"]\nRUN y", &[], &base).unwrap();
    let argv = |step: &Step| match &step.kind {
        StepKind::Run(run) => run.argv.clone(),
        _ => Vec::new(),
    };
    let argv: Vec<Vec<String>> = recipe.steps.iter().map(argv).collect();
    assert_eq!(argv, [vec!["/bin/bash", "-c", "x"], Vec::new(), vec!["/bin/sh", "y"]]);
}

#[test]
fn the_triggers_of_a_base_come_first() {
    let file = Dockerfile::parse("# a comment\nFROM a\nRUN own $A\n", &arguments(&[("A", "1")])).unwrap();
    let triggers = |texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        file.with_triggers(&texts)
    };
    let with = triggers(&["ARG A", "COPY --from=named . /srv", "RUN first", "MAINTAINER somebody"]).unwrap();
    assert_eq!(with.contexts().collect::<Vec<_>>(), ["named"]);
    let recipe = with.resolve(&ImageConfig::default()).unwrap();
    let texts: Vec<(usize, &str)> = recipe.steps.iter().map(|step| (step.line, &step.text[..])).collect();
    assert_eq!(texts, [(2, "ONBUILD COPY --from=named . /srv"), (2, "ONBUILD RUN first"), (3, "RUN own $A")]);
    let StepKind::Run(run) = &recipe.steps[2].kind else { panic!("{recipe:?}") };
    assert_eq!(run.args, pairs(&[("A", "1")]));
    let [warning] = &recipe.warnings[..] else { panic!("{:?}", recipe.warnings) };
    assert!(warning.starts_with("Dockerfile line 2: MAINTAINER is ignored"), "{warning}");
    for (bad, code) in [
        ("RUN --mount=type=secret,id=token cat /run/secrets/token", Code::Unsupported),
        ("RUN --mount=type=$KIND,id=token true", Code::Unsupported),
        ("FROM b", Code::Unsupported),
        ("ONBUILD RUN x", Code::Unsupported),
        ("x", Code::Invalid),
        ("", Code::Invalid),
        ("RUN a\nRUN b", Code::Invalid),
    ] {
        let error = triggers(&["RUN x", bad]).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().starts_with("Dockerfile line 2: the base image's ONBUILD"), "{error}");
    }
    assert_eq!(triggers(&["RUN x"; MAX_TRIGGERS + 1]).unwrap_err().code(), Code::Limit);
}
