//! What an input/output error on a mounted volume means, by its number.
//!
//! The numbers are those of Linux. A block device tells a failed request as `EIO`, or more exactly as one of the
//! numbers that `blk_errors` in the kernel's `block/blk-core.c` lists; file servers and FUSE file systems pass on
//! nearly any number.

use crate::api::Reason;
use crate::contract::failure::Failure;
use rustix::io::Errno;
use std::io;

/// What an error says about the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No block, inode or quota is left.
    Full,
    /// The user, the group or a policy may not do this.
    Denied,
    /// The volume is mounted read-only.
    ReadOnly,
    /// The device, or what the file system keeps on it, failed. If it persists, what was read is lost.
    Medium,
    /// The device or file server does not answer now; what it holds may be whole.
    Away,
    /// Anything else: running again would give the same.
    Other,
}

/// Tells the kind of an error. One without a number is [`Kind::Other`], unless its kind in the standard library tells.
pub fn kind(error: &io::Error) -> Kind {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => Kind::Full,
        Some(Errno::ACCESS | Errno::PERM) => Kind::Denied,
        Some(Errno::ROFS) => Kind::ReadOnly,
        Some(Errno::IO | Errno::REMOTEIO | Errno::NODATA | Errno::UCLEAN | Errno::BADMSG | Errno::ILSEQ) => {
            Kind::Medium
        }
        Some(
            Errno::STALE
            | Errno::TIMEDOUT
            | Errno::NOLINK
            | Errno::NODEV
            | Errno::NXIO
            | Errno::BADE
            | Errno::NOTCONN
            | Errno::CONNRESET
            | Errno::CONNABORTED
            | Errno::CONNREFUSED
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::NETRESET
            | Errno::SHUTDOWN
            | Errno::PIPE
            | Errno::PROTO
            | Errno::KEYEXPIRED
            | Errno::AGAIN
            | Errno::INTR
            | Errno::BUSY
            | Errno::NOMEM
            | Errno::NOBUFS
            | Errno::MFILE
            | Errno::NFILE,
        ) => Kind::Away,
        Some(_) => Kind::Other,
        None => match error.kind() {
            io::ErrorKind::PermissionDenied => Kind::Denied,
            io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Kind::Away,
            _ => Kind::Other,
        },
    }
}

/// Whether the same request may succeed a moment later.
pub fn may_pass(error: &io::Error) -> bool {
    matches!(kind(error), Kind::Medium | Kind::Away)
}

/// A volume that the agent writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// The claim with the points.
    Target,
    /// The new volume of a member, which a restore fills.
    Staged,
}

impl Volume {
    /// What messages call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Target => "the target",
            Self::Staged => "the staged volume",
        }
    }

    /// The typed failure for an error on it, with what a person can do about it. The message of a staged volume names it.
    pub fn failure(self, message: &str, error: &io::Error) -> Failure {
        match self {
            Self::Target => target_failure(message, error),
            Self::Staged => staged_failure(message, error),
        }
    }

    /// The reason for a volume that failed, or does not answer.
    pub const fn broken(self) -> Reason {
        match self {
            Self::Target => Reason::TargetIoError,
            Self::Staged => Reason::StagingIoError,
        }
    }
}

fn staged_failure(message: &str, error: &io::Error) -> Failure {
    let name = Volume::Staged.name();
    let message = if message.contains(name) { message.to_owned() } else { format!("{name}: {message}") };
    match kind(error) {
        Kind::Full => Failure::new(Reason::StagingFull, format!("{message}; use a larger volume")),
        Kind::Denied => Failure::new(
            Reason::StagingNotWritable,
            format!("{message}; let the pod's user or group write there (runAsUser, fsGroup)"),
        ),
        Kind::ReadOnly => Failure::new(Reason::StagingNotWritable, format!("{message}; it is mounted read-only")),
        Kind::Medium | Kind::Away => Failure::new(
            Reason::StagingIoError,
            format!("{message}; if it persists, check the volume, and its device or file server"),
        ),
        Kind::Other => Failure::new(Reason::StagingNotWritable, message),
    }
}

/// The typed failure for an error on the target, with what a person can do about it.
pub fn target_failure(message: &str, error: &io::Error) -> Failure {
    match kind(error) {
        Kind::Full => Failure::new(
            Reason::TargetFull,
            format!("{message}; free space on the target claim (delete old backups) or make it larger"),
        ),
        Kind::Denied => Failure::new(
            Reason::TargetNotWritable,
            format!(
                "{message}; let the pod's user or group write there \
                 (spec.tool.podTemplate.securityContext: runAsUser, fsGroup)"
            ),
        ),
        Kind::ReadOnly => {
            Failure::new(Reason::TargetNotWritable, format!("{message}; the target is mounted read-only"))
        }
        Kind::Medium | Kind::Away => Failure::new(
            Reason::TargetIoError,
            format!("{message}; if it persists, check the volume, and its device or file server"),
        ),
        Kind::Other => Failure::new(Reason::TargetNotWritable, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(errnos: &[Errno]) -> Vec<Reason> {
        errnos.iter().map(|errno| target_failure("cannot write", &(*errno).into()).reason).collect()
    }

    #[test]
    fn each_kind_of_error_has_its_reason() {
        assert_eq!(reasons(&[Errno::NOSPC, Errno::DQUOT]), [Reason::TargetFull; 2]);
        assert_eq!(reasons(&[Errno::ROFS, Errno::ACCESS, Errno::PERM, Errno::NOTDIR]), [Reason::TargetNotWritable; 4]);
        assert_eq!(
            reasons(&[Errno::IO, Errno::STALE, Errno::TIMEDOUT, Errno::REMOTEIO, Errno::UCLEAN, Errno::HOSTUNREACH]),
            [Reason::TargetIoError; 6]
        );
    }

    #[test]
    fn an_error_of_the_staged_volume_is_told_of_it() {
        let of = |errno: Errno| Volume::Staged.failure("cannot write", &errno.into());
        assert_eq!([of(Errno::NOSPC).reason, of(Errno::DQUOT).reason], [Reason::StagingFull; 2]);
        assert_eq!([of(Errno::ROFS).reason, of(Errno::ACCESS).reason], [Reason::StagingNotWritable; 2]);
        assert_eq!([of(Errno::IO).reason, of(Errno::STALE).reason], [Volume::Staged.broken(); 2]);
        for errno in [Errno::NOSPC, Errno::ROFS, Errno::PERM, Errno::IO, Errno::NOTDIR] {
            assert!(of(errno).message.starts_with(Volume::Staged.name()), "{}", of(errno).message);
            let of_target = Volume::Target.failure("cannot write", &errno.into());
            assert_eq!(of_target, target_failure("cannot write", &errno.into()));
        }
    }

    #[test]
    fn only_a_failed_medium_says_that_what_was_there_is_lost() {
        let of = |errno: Errno| kind(&errno.into());
        assert_eq!([of(Errno::IO), of(Errno::NODATA), of(Errno::BADMSG)], [Kind::Medium; 3]);
        assert_eq!([of(Errno::STALE), of(Errno::TIMEDOUT), of(Errno::NODEV)], [Kind::Away; 3]);
        assert!(!may_pass(&Errno::NOENT.into()));
    }
}
