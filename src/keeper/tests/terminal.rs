//! A program on a terminal that init makes for it, inside real gVisor.

use std::os::unix::net::UnixStream;

use super::{PATIENCE, Sandbox};
use crate::keeper::wire::init::{Reply, Request, Start, Window};
use screen::Screen;

#[path = "../../../tests/common/screen.rs"]
mod screen;

impl Sandbox {
    /// Starts a program on a terminal.
    fn on_terminal(&mut self, id: u32, window: Window, arguments: &[&str]) -> Screen {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let start = Start {
            id,
            arguments: arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
            directory: b"/".to_vec(),
            terminal: Some(window),
            ..Start::default()
        };
        assert_eq!(self.ask(&Request::Start(Box::new(start)), vec![theirs.into()]), Reply::Started { id });
        Screen::new(ours)
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_terminal_has_a_size_a_foreground_and_an_end() {
    let mut sandbox = Sandbox::start(false);
    // Whenever the size comes, a program is in the foreground after it.
    let script = "trap 'echo resized; stty size; exec sh -c \"echo waiting; exec sleep 60\"' WINCH; \
                  tty; stty size; echo $TERM; while :; do sleep 0.1; done";
    let mut screen = sandbox.on_terminal(1, Window { rows: 33, columns: 101 }, &["sh", "-c", script]);
    let before = screen.see(Some("xterm\r\n"));
    assert!(before.starts_with("/dev/pts/") && before.contains("\r\n33 101\r\n"), "{before:?}");
    let window = Window { rows: 7, columns: 9 };
    sandbox.init.send(&Request::Resize { id: 1, window }.encode(), vec![]).unwrap();
    screen.see(Some("resized\r\n7 9\r\n"));
    screen.see(Some("waiting\r\n"));
    screen.type_in("\x03");
    assert_eq!(sandbox.reply(), Reply::Exited { id: 1, status: libc::SIGINT });
    screen.see(None);
    // What was said last comes before the end.
    let mut screen = sandbox.on_terminal(3, window, &["sh", "-c", "seq 1 5000; echo the end"]);
    assert_eq!(sandbox.reply(), Reply::Exited { id: 3, status: 0 });
    assert!(screen.see(None).ends_with("\r\n5000\r\nthe end\r\n"));
    // A program that ignores its terminal's end doesn't keep it.
    let screen = sandbox.on_terminal(2, window, &["sh", "-c", "sleep 60"]);
    drop(screen);
    assert_eq!(sandbox.reply(), Reply::Exited { id: 2, status: libc::SIGHUP });
    sandbox.end();
}
