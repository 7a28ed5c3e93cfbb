//! What a Dockerfile asks for, its variables replaced.

/// What the first step is made upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// `FROM scratch`: nothing.
    Scratch,
    /// An image's name, as written.
    Image(String),
}

/// What is done to the base, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) steps: Vec<Step>,
    /// For people, a sentence each.
    pub(crate) warnings: Vec<String>,
}

/// One instruction, its variables replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Where it begins in the Dockerfile, counted from 1.
    pub(crate) line: usize,
    /// As written, in one line, for messages.
    pub(crate) text: String,
    pub(crate) kind: StepKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StepKind {
    Run(Run),
    Copy(Copy),
    /// Adds to the environment, or replaces.
    Env(Vec<(String, String)>),
    /// An absolute path.
    Workdir(String),
    User(String),
    Cmd(Vec<String>),
    Entrypoint {
        argv: Vec<String>,
        /// Whether CMD stands before it in this Dockerfile. Else the base's is removed.
        keeps_cmd: bool,
    },
    /// Ports with their protocol: `80/tcp`.
    Expose(Vec<String>),
    Label(Vec<(String, String)>),
    /// What later builds on the image run commands with, too.
    Shell(Vec<String>),
    StopSignal(String),
}

/// A program that is run in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) argv: Vec<String>,
    /// The build arguments in scope, which are set for this program beside the image's environment, and have none of its names.
    pub(crate) args: Vec<(String, String)>,
    /// Settings of proxies that were passed as build arguments without an ARG. As in docker they make no other step of it.
    pub(crate) proxies: Vec<(String, String)>,
    pub(crate) secrets: Vec<SecretMount>,
}

/// A secret that a program of a step can read as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretMount {
    pub(crate) id: String,
    /// An absolute path, `/run/secrets/ID` by default.
    pub(crate) target: String,
    /// Whether the step fails where the secret isn't given.
    pub(crate) required: bool,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Files that are copied into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    /// The name of another context than the main one.
    pub(crate) context: Option<String>,
    /// Patterns below the context.
    pub(crate) sources: Vec<String>,
    /// Patterns as in `.dockerignore` of what is not copied.
    pub(crate) excludes: Vec<String>,
    /// An absolute path. It ends with a slash if it can be nothing but a directory.
    pub(crate) destination: String,
    /// `user`, `user:group`, by name or number. Root by default.
    pub(crate) chown: Option<String>,
    /// For everything that is copied.
    pub(crate) chmod: Option<u32>,
    /// ADD: an archive would be unpacked, which isn't supported.
    pub(crate) is_add: bool,
}
