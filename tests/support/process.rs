//! Child processes that do not outlive the tests.

use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, mpsc},
};

/// A running program, with its output in a file. Killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

/// The thread that starts every child. The kernel kills a child when the *thread* that started it ends, and a test's
/// thread ends with the test.
static STARTER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, incoming) = mpsc::channel::<Order>();
    std::thread::spawn(move || {
        for (mut command, answer) in incoming {
            let _ = answer.send(command.spawn());
        }
    });
    orders
});

impl Process {
    /// Starts `program` in a process group of its own, with `log` for all its output.
    pub fn start(program: &Path, variables: &[(&str, String)], log: &Path) -> Self {
        Self::start_with(program, &[], variables, log)
    }

    /// The same with arguments.
    pub fn start_with(program: &Path, arguments: &[String], variables: &[(&str, String)], log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).process_group(0);
        let (answer, started) = mpsc::channel();
        STARTER.send((command, answer)).unwrap();
        Self { child: started.recv().unwrap().unwrap(), log: log.to_owned() }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGSTOP: alive, but silent.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        let _ = self.child.wait();
    }

    /// Whether the program has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Panics with the end of the log if the program has ended.
    pub fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let end: Vec<_> = log.lines().rev().take(30).collect();
            let end: Vec<_> = end.into_iter().rev().collect();
            panic!("{} ended with {status}:\n{}", self.log.display(), end.join("\n"));
        }
    }

    fn signal(&self, signal: Signal) {
        // The group may be gone already.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
