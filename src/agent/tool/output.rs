//! What the tool said and left, judged. Pure: text in, verdict out.
//!
//! The tool is Neo4j's `BackupTool`, 1.3 to 1.8. It ends with 0 or 1 only, and says the rest in its texts: a backup is
//! good when it ended with 0, its last line is `Done`, the folder holds a `neostore` and no report of inconsistencies.
//! Version 1.8.1 and 1.8.2 write such a report and still end with 0 and `Done`.

use crate::api::Reason;
use crate::contract::failure::{Failure, cut};

/// The last line of a backup that worked.
const DONE: &str = "Done";
/// Bytes of a quoted line in a message.
const QUOTE_BYTES_MAX: usize = 400;
/// By the convention of shells: the command was found but cannot be executed, or was not found.
const CANNOT_EXECUTE: [i32; 2] = [126, 127];
/// A shell's exit code for a command that was killed by signal `n` is this plus `n`.
const SHELL_SIGNAL_BASE: i32 = 128;
const SIGKILL: i32 = 9;

/// How the tool's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// What is known of a run of the tool when it is judged.
#[derive(Clone, Debug)]
pub struct ToolOutput<'a> {
    /// How it ended.
    pub ending: Ending,
    /// The end of its standard output.
    pub stdout: &'a str,
    /// The end of its standard error.
    pub stderr: &'a str,
    /// Bytes that are free on the target after it has ended, if that is known.
    pub free_bytes: Option<u64>,
    /// Whether its target holds the file `neostore`, without which nothing is a store.
    pub left_neostore: bool,
    /// Name of a report of inconsistencies in its target.
    pub left_report: Option<&'a str>,
}

/// A text by which a failure is known, what it means, and what to do about it.
struct Known {
    /// Every one of them means the same; the first that is found gives the line to quote.
    texts: &'static [&'static str],
    reason: Reason,
    advice: &'static str,
}

/// The first that matches counts. The order matters: the tool says `Couldn't connect to` before nearly every error of
/// the request, whatever it was.
const KNOWN: &[Known] = &[
    Known {
        texts: &["No space left on device", "Disk quota exceeded"],
        reason: Reason::TargetFull,
        advice: "free space on the target claim (delete old backups) or make it larger",
    },
    Known {
        texts: &["Input/output error", "Stale file handle"],
        reason: Reason::TargetIoError,
        advice: "if it persists, check the volume, and its device or file server",
    },
    Known {
        texts: &["doesn't match my StoreId"],
        reason: Reason::StoreMismatch,
        advice: "the member serves a different database from the one that the earlier backup copied: take a full \
                 backup",
    },
    Known {
        texts: &["NoSuchLogVersionException", "not found in any logical log"],
        reason: Reason::LogsPruned,
        advice: "the member no longer has the logs since the earlier backup: take a full backup, and configure the \
                 members to keep their logs longer (keep_logical_logs)",
    },
    Known {
        texts: &["Store level inconsistency"],
        reason: Reason::ConsistencyFailed,
        advice: "the copy holds inconsistent records: check the database itself with the same tool",
    },
    Known {
        texts: &["Could not find or load main class", "Unable to access jarfile"],
        reason: Reason::ToolNotFound,
        advice: "set spec.tool.image to an image that holds the database's backup tool, and spec.tool.command to its call",
    },
    Known {
        texts: &["OutOfMemoryError", "Could not reserve enough space for"],
        reason: Reason::ToolFailed,
        advice: "the tool's Java heap is too small: raise it (JAVA_OPTS in spec.tool.env) together with the memory limit in \
                 spec.tool.podTemplate.resources",
    },
    Known {
        texts: &["Channel has been closed", "BlockingReadTimeoutException"],
        reason: Reason::MasterUnreachable,
        advice: "the member went away while it was copied, or did not answer in time: check that it runs, and look \
                 at its messages.log",
    },
    Known {
        texts: &["Client could not connect", "Couldn't connect to"],
        reason: Reason::MasterUnreachable,
        advice: "check that the member runs with online_backup_enabled=true and that NetworkPolicies let the backup's pod \
                 reach its backup port",
    },
];

/// What Java says when a page of a mapped file cannot be had: the volume is full, or failed. Up to Java 20, and since.
const FAULTS: &[&str] = &[
    "a fault occurred in a recent unsafe memory access operation",
    "a fault occurred in an unsafe memory access operation",
    "SIGBUS (0x7)",
];
/// With less than this free, a volume counts as full: file systems keep the last blocks for themselves.
const FREE_BYTES_MIN: u64 = 16 << 20;

/// Whether the tool made a backup; if not, why, in words for people.
pub fn judge(output: &ToolOutput) -> Result<(), Failure> {
    match output.ending {
        Ending::Exited(0) => judge_success(output),
        Ending::Exited(code) => Err(judge_failure(output, code)),
        Ending::Killed(signal) => Err(killed(output, signal)),
    }
}

/// The tool says that it worked. It says so also when it did not.
fn judge_success(output: &ToolOutput) -> Result<(), Failure> {
    if !output.left_neostore {
        return Err(Failure::new(
            Reason::ToolLeftNoStore,
            format!(
                "the tool ended with exit code 0 but left no store (no file neostore in its target); {}; check \
                 spec.tool.command: it must write to {{target}}",
                last_words(output.stdout, output.stderr)
            ),
        ));
    }
    if let Some(report) = output.left_report {
        return Err(Failure::new(
            Reason::ConsistencyFailed,
            format!(
                "the tool's consistency check found errors in the copy and wrote {report}; its output is in the \
                 pod's log; check the database itself with the same tool"
            ),
        ));
    }
    if last_line(output.stdout) != Some(DONE) {
        return Err(Failure::new(
            Reason::ToolFailed,
            format!(
                "the tool ended with exit code 0 but not with the line '{DONE}'; {}",
                last_words(output.stdout, output.stderr)
            ),
        ));
    }
    Ok(())
}

fn judge_failure(output: &ToolOutput, code: i32) -> Failure {
    if let Some(failure) = known(output, &format!("the tool ended with exit code {code}")) {
        return failure;
    }
    if CANNOT_EXECUTE.contains(&code) {
        return Failure::new(
            Reason::ToolNotFound,
            format!(
                "the tool cannot be executed (exit code {code}); {}; set spec.tool.image to an image that holds the \
                 database's backup tool, and spec.tool.command to its call",
                last_words(output.stdout, output.stderr)
            ),
        );
    }
    if code > SHELL_SIGNAL_BASE && code <= SHELL_SIGNAL_BASE + 64 {
        return killed(output, code - SHELL_SIGNAL_BASE);
    }
    Failure::new(
        Reason::ToolFailed,
        format!("the tool ended with exit code {code}; {}", last_words(output.stdout, output.stderr)),
    )
}

fn killed(output: &ToolOutput, signal: i32) -> Failure {
    let what = format!("the tool was killed by signal {signal}");
    known(output, &what).unwrap_or_else(|| {
        let advice = if signal == SIGKILL {
            "; most likely the pod's memory limit was reached: raise it in spec.tool.podTemplate.resources"
        } else {
            ""
        };
        Failure::new(Reason::ToolKilled, format!("{what}; {}{advice}", last_words(output.stdout, output.stderr)))
    })
}

fn known(output: &ToolOutput, what: &str) -> Option<Failure> {
    if let Some(line) = line_with(output, FAULTS) {
        let (reason, advice) = match output.free_bytes {
            Some(free) if free < FREE_BYTES_MIN => {
                (Reason::TargetFull, "the target is full: free space on the target claim or make it larger")
            }
            _ => (Reason::TargetIoError, "a mapped file could not be read or written: check the volume and its device"),
        };
        return Some(Failure::new(reason, format!("{what}: \"{line}\"; {advice}")));
    }
    KNOWN.iter().find_map(|known| {
        let line = line_with(output, known.texts)?;
        Some(Failure::new(known.reason, format!("{what}: \"{line}\"; {}", known.advice)))
    })
}

/// The start of the first line with the first of these texts that is there.
fn line_with<'a>(output: &ToolOutput<'a>, texts: &[&str]) -> Option<&'a str> {
    texts.iter().find_map(|text| {
        let line = output.stderr.lines().chain(output.stdout.lines()).find(|line| line.contains(text))?;
        Some(cut(line.trim(), QUOTE_BYTES_MAX))
    })
}

/// The lines that say most, quoted: the root of an uncaught exception, else the last line of each stream.
pub fn last_words(stdout: &str, stderr: &str) -> String {
    let quote = |line: &str| cut(line, QUOTE_BYTES_MAX).to_owned();
    if let Some(exception) = exception(stderr).or_else(|| exception(stdout)) {
        return format!("it said \"{}\"", quote(exception));
    }
    match (last_line(stdout), last_line(stderr)) {
        (None, None) => "it said nothing".to_owned(),
        (Some(line), None) => format!("its last line is \"{}\"", quote(line)),
        (None, Some(line)) => format!("its last line on standard error is \"{}\"", quote(line)),
        (Some(out), Some(err)) => {
            format!("its last line is \"{}\", on standard error \"{}\"", quote(out), quote(err))
        }
    }
}

/// The last cause in a Java stack trace, else the exception itself.
fn exception(text: &str) -> Option<&str> {
    let lines = || text.lines().map(str::trim);
    lines()
        .rfind(|line| line.starts_with("Caused by: "))
        .or_else(|| lines().find(|line| line.starts_with("Exception in thread ")))
}

/// The last line that is not empty and not part of a stack trace.
fn last_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("at "))
}

/// Whether a file in the store is a report that the consistency check of 1.8.1 and 1.8.2 leaves when it finds errors.
pub fn is_inconsistency_report(name: &str) -> bool {
    name.starts_with("inconsistencies-") && name.strip_suffix(".report").is_some()
}

/// The percentage at the end of a line of progress, such as `....................  40%`.
pub fn percent(line: &str) -> Option<u8> {
    let rest = line.trim_end().strip_suffix('%')?;
    let digits = rest.len() - rest.bytes().rev().take_while(u8::is_ascii_digit).count();
    rest[digits..].parse().ok().filter(|percent| *percent <= 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32, stdout: &'static str, stderr: &'static str) -> ToolOutput<'static> {
        let ending = Ending::Exited(code);
        ToolOutput { ending, stdout, stderr, free_bytes: None, left_neostore: true, left_report: None }
    }

    fn reason(output: &ToolOutput) -> Option<Reason> {
        judge(output).err().map(|failure| failure.reason)
    }

    const FULL: &str = "Performing full backup from 'single://h:6362'\n...........\n[11 Files copied]\nDone\n";

    #[test]
    fn done_with_a_store_is_a_backup() {
        assert_eq!(judge(&exited(0, FULL, "Full consistency check\n....  100%\n")), Ok(()));
        assert_eq!(judge(&exited(0, "Done", "")), Ok(()));
        assert_eq!(judge(&exited(0, "Done\r\n\r\n", "")), Ok(()));
    }

    #[test]
    fn exit_code_zero_alone_is_none() {
        let nothing = ToolOutput { left_neostore: false, ..exited(0, FULL, "") };
        assert_eq!(reason(&nothing), Some(Reason::ToolLeftNoStore));
        let report = ToolOutput { left_report: Some("inconsistencies-1.report"), ..exited(0, FULL, "") };
        assert_eq!(reason(&report), Some(Reason::ConsistencyFailed));
        for stdout in ["", "Done, nearly", "Done\nnot really", "done"] {
            assert_eq!(reason(&exited(0, stdout, "")), Some(Reason::ToolFailed), "{stdout:?}");
        }
        assert_eq!(reason(&exited(0, "", "Done")), Some(Reason::ToolFailed), "Done on the wrong stream");
    }

    #[test]
    fn known_texts_have_their_reasons() {
        let cases: &[(i32, &str, &str, Reason)] = &[
            (
                1,
                "Couldn't connect to 'single://h:1'\nComException: Client could not connect to /h:1",
                "",
                Reason::MasterUnreachable,
            ),
            (1, "Couldn't connect to 'single://h:1', something of 1.3", "", Reason::MasterUnreachable),
            (1, "......", "org.neo4j.com.ComException: Channel has been closed", Reason::MasterUnreachable),
            (
                1,
                "Couldn't connect to 'single://h:1' \norg.neo4j.com.ComException: StoreId[1] from response doesn't match my StoreId[2]",
                "",
                Reason::StoreMismatch,
            ),
            (
                1,
                "",
                "java.lang.RuntimeException: x.NoSuchLogVersionException: No such log version:3",
                Reason::LogsPruned,
            ),
            (
                1,
                "",
                "RuntimeException: txId:7 not found in any logical log (starting at 9 and searching backwards",
                Reason::LogsPruned,
            ),
            (
                1,
                FULL,
                "Exception in thread \"main\" java.lang.AssertionError: Store level inconsistency found in x",
                Reason::ConsistencyFailed,
            ),
            (1, "Couldn't connect to 'x'\njava.io.IOException: No space left on device", "", Reason::TargetFull),
            (137, "", "java.io.IOException: Disk quota exceeded", Reason::TargetFull),
            (1, "", "Caused by: java.io.IOException: Input/output error", Reason::TargetIoError),
            (1, "", "Error: Could not find or load main class org.neo4j.backup.BackupTool", Reason::ToolNotFound),
            (127, "", "sh: 1: neo4j-backup: not found", Reason::ToolNotFound),
            (126, "", "sh: 1: neo4j-backup: Permission denied", Reason::ToolNotFound),
            (137, "", "", Reason::ToolKilled),
            (143, "", "", Reason::ToolKilled),
            (1, "", "Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space", Reason::ToolFailed),
            (1, "Specify either -full or -incremental", "", Reason::ToolFailed),
            (
                1,
                "",
                "Exception in thread \"main\" java.lang.RuntimeException: /t already contains a database",
                Reason::ToolFailed,
            ),
            (1, "", "", Reason::ToolFailed),
            (255, "", "", Reason::ToolFailed),
        ];
        for (code, stdout, stderr, expected) in cases {
            let output = ToolOutput { left_neostore: false, ..exited(*code, stdout, stderr) };
            assert_eq!(reason(&output), Some(*expected), "{code} {stdout} {stderr}");
        }
    }

    #[test]
    fn a_fault_in_a_mapped_file_is_the_volumes() {
        // Java 8 to 17, Java 21, and a virtual machine that does not survive it.
        for said in [
            "java.lang.InternalError: a fault occurred in a recent unsafe memory access operation in compiled Java code",
            "Exception in thread \"main\" java.lang.InternalError: a fault occurred in an unsafe memory access operation",
            "#  SIGBUS (0x7) at pc=0x00007f6d1c0b4a3e, pid=7, tid=8",
        ] {
            let with = |free_bytes| reason(&ToolOutput { free_bytes, ..exited(1, "", said) });
            assert_eq!(with(Some(4096)), Some(Reason::TargetFull), "{said}");
            assert_eq!([with(Some(1 << 40)), with(None)], [Some(Reason::TargetIoError); 2], "{said}");
        }
    }

    #[test]
    fn a_killed_tool_says_what_to_raise() {
        let killed = ToolOutput { ending: Ending::Killed(9), ..exited(0, "", "") };
        let failure = judge(&killed).unwrap_err();
        assert_eq!(failure.reason, Reason::ToolKilled);
        assert!(failure.message.contains("memory limit"), "{}", failure.message);
        let terminated = judge(&ToolOutput { ending: Ending::Killed(15), ..exited(0, "", "") }).unwrap_err();
        assert!(!terminated.message.contains("memory"), "{}", terminated.message);
    }

    #[test]
    fn a_message_quotes_the_line_that_says_most() {
        let stderr = "Exception in thread \"main\" java.lang.RuntimeException: wrapped\n\tat x.Y.z(Y.java:1)\n\
                      Caused by: java.io.IOException: the disk is on fire\n\t... 3 more\n";
        let failure = judge(&exited(1, "Performing full backup", stderr)).unwrap_err();
        assert!(
            failure.message.contains("\"Caused by: java.io.IOException: the disk is on fire\""),
            "{}",
            failure.message
        );
        let failure = judge(&exited(1, "Please specify -from", "Picked up JAVA_TOOL_OPTIONS")).unwrap_err();
        assert!(failure.message.contains("Please specify -from"), "{}", failure.message);
        let long = "x".repeat(5000);
        let output = ToolOutput { stdout: &long, ..exited(1, "", "") };
        assert!(judge(&output).unwrap_err().message.len() < 600);
    }

    #[test]
    fn percentages() {
        for (line, expected) in [
            ("....................  10%", Some(10)),
            ("..........100%", Some(100)),
            ("5%\r", Some(5)),
            ("101%", None),
            ("1000000%", None),
            ("%", None),
            ("50% of nothing", None),
            ("ü%", None),
            ("", None),
        ] {
            assert_eq!(percent(line), expected, "{line:?}");
        }
    }
}
