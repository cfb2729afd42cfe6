use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};
use pointsman_model::{Globals, Script, ScriptUser};

use crate::security;

/// The user that scripts run as by keepalived's custom, where it exists.
const DEFAULT_USER: &str = "keepalived_script";
/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Shells for what keepalived hands to one; only the first knows `/dev/tcp`.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// What holds for all commands of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// As whom commands run that do not say.
    pub user: Option<ScriptUser>,
    /// Refuse what somebody else than root could change, instead of warning.
    pub security: bool,
    /// Run scripts by the path they were given rather than where its symbolic links lead.
    pub keep_symlinks: bool,
    /// File mode bits they do not get.
    pub umask: Option<u32>,
}

impl Policy {
    /// The policy a configuration asks for.
    pub fn of(globals: &Globals) -> Self {
        Self {
            user: globals.script_user.clone(),
            security: globals.script_security,
            keep_symlinks: globals.use_symlink_paths,
            umask: globals.umask,
        }
    }
}

/// Why a command cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No words at all.
    #[error("the command is empty")]
    Empty,
    /// A word with a NUL byte.
    #[error("the command holds a NUL byte")]
    Nul,
    /// No such program.
    #[error("{program}: not found")]
    NotFound {
        /// As configured.
        program: String,
    },
    /// It is there, but not for this user.
    #[error("{path}: not executable by {user}")]
    NotExecutable {
        /// Path.
        path: PathBuf,
        /// The user it would run as.
        user: String,
    },
    /// No such user or group.
    #[error("no such {kind} `{name}`")]
    NoSuchUser {
        /// `user` or `group`.
        kind: &'static str,
        /// Name or number as configured.
        name: String,
    },
    /// Script security is on, and nobody was named to run it.
    #[error(
        "script security is on and there is neither a script_user nor a user {DEFAULT_USER}: say \
         who shall run it"
    )]
    NoUser,
    /// Script security is on, and somebody else than root could change what root would run.
    #[error("{0}")]
    Insecure(security::Insecure),
}

/// A command that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub(crate) argv: Vec<OsString>,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) umask: Option<u32>,
    text: String,
    warnings: Vec<String>,
}

impl Program {
    /// Looks a command up: its user, its file, and who could change that.
    ///
    /// # Errors
    /// Why it cannot be run.
    pub fn prepare(script: &Script, policy: &Policy) -> Result<Self, Unfit> {
        let first = script.argv.first().ok_or(Unfit::Empty)?;
        if script.argv.iter().any(|word| word.contains('\0')) {
            return Err(Unfit::Nul);
        }
        let (user, gid) = identity(script.user.as_ref(), policy)?;
        let mut warnings = Vec::new();
        let mut argv: Vec<OsString> = Vec::with_capacity(script.argv.len());
        if first.starts_with("</") {
            // An input redirection has no file of its own to be looked at.
            let shell = SHELLS.iter().find(|shell| Path::new(shell).exists());
            let line = script.argv.join(" ");
            argv.extend([shell.unwrap_or(&SHELLS[1]).into(), "-c".into(), line.into()]);
        } else {
            let found = look_up(first)?;
            let real = fs::canonicalize(&found).map_err(|_| Unfit::NotFound {
                program: first.clone(),
            })?;
            let metadata = fs::metadata(&real).map_err(|_| Unfit::NotFound {
                program: first.clone(),
            })?;
            if !metadata.is_file() || !executable(&metadata, &user, gid) {
                return Err(Unfit::NotExecutable {
                    path: real,
                    user: user.name,
                });
            }
            let setuid_root = metadata.uid() == 0 && metadata.permissions().mode() & 0o4000 != 0;
            if (user.uid.is_root() || setuid_root)
                && let Some(insecure) = security::weakness(&real)
            {
                if policy.security {
                    return Err(Unfit::Insecure(insecure));
                }
                warnings.push(insecure.to_string());
            }
            if !begins_as_program(&real) {
                warnings.push(format!(
                    "{}: has no #! line; a shell will run it",
                    real.display()
                ));
            }
            argv.push(if policy.keep_symlinks { found } else { real }.into());
            argv.extend(script.argv[1..].iter().map(OsString::from));
        }
        Ok(Self {
            argv,
            uid: user.uid,
            gid,
            umask: policy.umask,
            text: script.to_string(),
            warnings,
        })
    }

    /// The same command with more arguments at its end.
    #[must_use]
    pub fn with_args(&self, more: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let mut program = self.clone();
        program.argv.extend(more.into_iter().map(Into::into));
        program
    }

    /// What an operator should know about it.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The command as it was configured.
impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Who runs it: named with the command, or for the site, or keepalived's custom, or root.
fn identity(named: Option<&ScriptUser>, policy: &Policy) -> Result<(User, Gid), Unfit> {
    let Some(named) = named.or(policy.user.as_ref()) else {
        if let Ok(Some(user)) = User::from_name(DEFAULT_USER) {
            let gid = user.gid;
            return Ok((user, gid));
        }
        if policy.security {
            return Err(Unfit::NoUser);
        }
        let own = Uid::effective();
        return user_of(&own.to_string()).map(|user| {
            let gid = user.gid;
            (user, gid)
        });
    };
    let user = user_of(&named.user)?;
    let gid = match &named.group {
        None => user.gid,
        Some(group) => group_of(group)?,
    };
    Ok((user, gid))
}

fn user_of(name: &str) -> Result<User, Unfit> {
    let by_name = User::from_name(name).ok().flatten();
    let found = by_name.or_else(|| {
        let uid = Uid::from_raw(name.parse().ok()?);
        User::from_uid(uid).ok().flatten()
    });
    found.ok_or_else(|| Unfit::NoSuchUser {
        kind: "user",
        name: name.to_owned(),
    })
}

fn group_of(name: &str) -> Result<Gid, Unfit> {
    let by_name = Group::from_name(name).ok().flatten().map(|group| group.gid);
    by_name
        .or_else(|| name.parse().ok().map(Gid::from_raw))
        .ok_or_else(|| Unfit::NoSuchUser {
            kind: "group",
            name: name.to_owned(),
        })
}

/// Finds a program as `execvp` does.
fn look_up(program: &str) -> Result<PathBuf, Unfit> {
    let missing = || Unfit::NotFound {
        program: program.to_owned(),
    };
    if program.contains('/') {
        let path = std::path::absolute(program).map_err(|_| missing())?;
        return if path.exists() {
            Ok(path)
        } else {
            Err(missing())
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .ok_or_else(missing)
}

fn executable(metadata: &fs::Metadata, user: &User, gid: Gid) -> bool {
    let mode = metadata.permissions().mode();
    let bit = if user.uid.is_root() {
        0o111
    } else if metadata.uid() == user.uid.as_raw() {
        0o100
    } else if metadata.gid() == gid.as_raw() {
        0o010
    } else {
        0o001
    };
    mode & bit != 0
}

/// True when the kernel itself knows how to run it, or it cannot be told.
fn begins_as_program(path: &Path) -> bool {
    let mut head = Vec::with_capacity(4);
    let Ok(file) = fs::File::open(path) else {
        return true;
    };
    match file.take(4).read_to_end(&mut head) {
        Ok(_) => head.starts_with(b"#!") || head.starts_with(b"\x7fELF"),
        Err(_) => true,
    }
}

/// The last bytes of what a command said, as text of one line.
pub(crate) fn one_line(said: Vec<u8>) -> String {
    let said = OsString::from_vec(said);
    let text = said.to_string_lossy();
    let lines: Vec<_> = text.split('\n').map(str::trim).collect();
    let lines: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    lines
        .join("; ")
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
