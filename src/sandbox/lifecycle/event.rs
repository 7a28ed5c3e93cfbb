//! What happens to a sandbox, and what is done about it.

use std::time::{Duration, Instant};

use super::Settings;
use crate::error::Error;

/// Something that has happened. The driver reports it; [`super::Lifecycle::handle`] decides what follows.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A part of what runsc needs is there.
    Prepared(Part),
    /// The keeper was asked to start runsc, and init's channel is open.
    RunscAsked,
    /// Init has sent its first message.
    InitReady,
    /// The keeper has looked for the memory that it is to watch, and has found it or not.
    MemoryLookedFor { found: bool },
    /// A creation takes this member of the warm pool, and these are its settings.
    Taken(Box<Settings>),
    /// The first policy is in force and egress is open. The engine holds descriptors of the sandbox from now on.
    GatewayOpen,
    /// Init has started the program.
    ProgramStarted,
    /// The engine has the tunnels' listeners.
    TunnelsOpen,
    /// The keeper, init or a step here failed, and the sandbox can't go on.
    Failed(Error),
    /// Something failed as it does when runsc or the keeper ends. The keeper's report is waited for, since it is more
    /// precise; this error counts if none comes.
    LossSuspected(Error),
    /// The program has ended, with this status of waitpid(2).
    ProgramExited(i32),
    /// Init's channel has ended, or init sends what it must not.
    InitLost(Error),
    /// The keeper reports that runsc and everything below it has ended.
    RunscExited(Error),
    /// The keeper reports that the sandbox had no memory left, and how that is known.
    OutOfMemory(String),
    /// The keeper has ended the sandbox because its lifetime was over.
    LifetimeExpired,
    /// The keeper's channel has ended.
    KeeperClosed(Error),
    /// The keeper's process has ended.
    KeeperExited,
    /// The engine has closed every descriptor of the sandbox.
    Detached,
    /// The gateway's rules are with a thread of their own.
    RulesOffloaded,
    /// They are back, or lost.
    RulesReclaimed,
    /// The control groups are gone.
    GroupsRemoved,
    /// Processes are still ending in a control group.
    GroupsBusy,
    /// The host asks for the end.
    TerminateRequested,
    /// The host has no handle to the sandbox any more, or its runtime is being shut down.
    HandleClosed,
    /// The host asks for a graceful end.
    StopRequested { signal: i32, grace: Duration },
    /// The engine has closed the last connection of a sandbox that is being stopped.
    Drained,
    /// The host uses the sandbox.
    Activity,
    /// The first executed program was asked for.
    ExecsBusy,
    /// The last executed program has ended.
    ExecsIdle,
    /// An operation on files has begun.
    FileBegan,
    /// An operation on files has ended.
    FileEnded,
    /// The keeper was asked for a snapshot that may take that time: the sandbox is paused.
    SnapshotBegan { time: Duration },
    /// The snapshot has ended; with an error, because the sandbox can't be resumed.
    SnapshotEnded { lost: Option<Error> },
    /// The exit snapshot's turn has come.
    ExitSnapshotBegan,
    /// The exit snapshot is stored, or can't be.
    ExitSnapshotEnded,
    /// The host waits until the sandbox is ready.
    ProbeRequested,
    /// The probe with this ticket was answered.
    ProbeAnswered { ticket: u32, ready: bool },
    /// Init was sent a request that it answers at once.
    InitAsked { ticket: u32 },
    /// Init has answered such a request.
    InitAnswered { ticket: u32 },
    /// What init has not answered is checked; `watched` is the time that the library has watched so far.
    SilenceChecked { watched: Duration },
    /// A deadline may have passed.
    TimePassed(Observed),
}

/// What runsc needs before it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The links and addresses that runsc looks for.
    Links,
    /// The root file system.
    Files,
    /// The sockets of the gateway that egress is delivered to.
    Relays,
}

/// What the driver sees when a timer has run out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    /// The keeper's process has ended.
    pub(crate) keeper_exited: bool,
    /// When the engine last moved a byte for the sandbox.
    pub(crate) last_byte: Instant,
}

/// What the driver has to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Open init's channel and ask the keeper to start runsc. Reported as `RunscAsked`, `Failed` or `LossSuspected`.
    StartRunsc,
    /// The same, but runsc waits before it reads its bundle, until `LetGoOfRunsc`.
    HoldRunsc,
    /// Have the keeper let go of a runsc that is held.
    LetGoOfRunsc,
    /// Have the keeper end the sandbox after this time: the host may be stopped, in a debugger or frozen by its
    /// control group, and not do it.
    LimitLifetime(Duration),
    /// Load the rules, which allow no destination. A failure is reported as `LossSuspected`.
    LoadRules,
    /// Load the rules, unless they are loaded, and the first policy, then open egress. Reported as `GatewayOpen` or `LossSuspected`.
    OpenGateway,
    /// Ask the keeper what the sandbox uses. Reported as `MemoryLookedFor`.
    AskUsage,
    /// Ask init to start the program. It may not run yet; then it finds the request when it does.
    StartProgram,
    /// Hand the tunnels' listeners to the engine. Reported as `TunnelsOpen` or `Failed`.
    OpenTunnels,
    /// Report this to the host.
    Publish(Notice),
    /// Ask whether the server inside is ready. Reported as `ProbeAnswered`.
    AskProbe { ticket: u32 },
    /// Kill a probe's command that is still running.
    KillProbe { ticket: u32 },
    /// Ask init whether it responds.
    Ping { ticket: u32 },
    /// Check for init's silence again soon: something is unanswered.
    CheckSilenceSoon,
    /// Accept no further connection. Reported as `Drained`.
    Drain,
    /// Send the program this signal; without one, every executed program.
    SignalPrograms(i32),
    /// Kill every process but init.
    KillPrograms,
    /// End the snapshot that the host has asked for. Reported as `SnapshotEnded`.
    CancelSnapshot,
    /// Take the exit snapshot when its turn comes. Reported as `ExitSnapshotBegan` and `ExitSnapshotEnded`.
    TakeExitSnapshot,
    /// Give the exit snapshot up.
    DropExitSnapshot,
    /// Have the engine close its descriptors of the sandbox. Reported as `Detached`.
    DetachEngine,
    /// Drop what only a sandbox that runs needs.
    Release,
    /// Ask the keeper to kill everything.
    AskKeeperToKill,
    /// Kill the keeper, and with it everything below.
    KillKeeper,
    /// The keeper can't be ended: it hangs in the kernel.
    GiveUpKeeper,
    /// Close init's channel.
    CloseInit,
    /// Watch the keeper's process in place of its channel. Reported as `KeeperExited`.
    AwaitKeeperExit,
    /// Reap the keeper's process.
    ReapKeeper,
    /// Remove what the keeper left of the control groups. Reported as `GroupsRemoved` or `GroupsBusy`.
    RemoveGroups,
    /// Leave the control groups to the next sandbox that is made beside them.
    AbandonGroups,
    /// Nothing is left: report how the sandbox ended.
    Finish,
}

/// What is reported to the host while a sandbox lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The program was started.
    Started,
    /// The server inside answers.
    Ready,
    /// The sandbox is ending.
    Ending,
}
