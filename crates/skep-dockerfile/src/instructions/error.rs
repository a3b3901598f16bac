//! What can be wrong with an instruction, in BuildKit's words.

use crate::expand::ExpandError;
use crate::quote::quoted;
use crate::suggest::Hint;

/// An instruction that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each is")]
pub enum InstructionError {
    #[error("unknown instruction: {name}{hint}")]
    Unknown { name: String, hint: Hint },
    #[error("{0} requires at least one argument")]
    AtLeastOne(&'static str),
    #[error("{0} requires exactly one argument")]
    ExactlyOne(&'static str),
    #[error("{0} requires at least two arguments, but only one was provided. Destination could not be determined")]
    NoDestination(&'static str),
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    #[error("{0} requires the arguments to be in JSON form")]
    NotJson(&'static str),
    #[error("{0} cannot accept a heredoc as {1}")]
    Heredoc(&'static str, &'static str),
    #[error("unknown flag: --{name}{hint}")]
    UnknownFlag { name: String, hint: Hint },
    #[error("duplicate flag specified: --{0}")]
    DuplicateFlag(&'static str),
    #[error("missing a value on flag: --{0}")]
    FlagValue(&'static str),
    #[error("expecting boolean value for flag --{0}, not: {1}")]
    FlagBool(&'static str, String),
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    #[error(
        "invalid name for build stage: {}, name can't start with a number or contain symbols", quoted(.0)
    )]
    StageName(String),
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChain,
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger(String),
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    #[error("Unknown type {} in HEALTHCHECK (try CMD)", quoted(.0))]
    HealthcheckKind(String),
    #[error("{0}")]
    Duration(String),
    #[error("Interval {} cannot be less than {minimum}", quoted(.name))]
    Interval { name: &'static str, minimum: String },
    #[error("strconv.ParseInt: parsing {}: {reason}", quoted(.text))]
    Number { text: String, reason: &'static str },
    #[error("--retries cannot be negative ({0})")]
    Retries(i32),
    #[error("failed to parse csv {what}: {problem}")]
    Csv { what: &'static str, problem: String },
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    MountFrom,
    #[error("invalid field '{0}' must be a key=value pair")]
    NoPair(String),
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    MountKeyOfOther { key: String, kind: &'static str },
    #[error("unexpected key '{key}' in '{field}'{hint}")]
    Key { key: String, field: String, hint: Hint },
    #[error("unsupported mount type {}{hint}", quoted(.value))]
    MountKind { value: String, hint: Hint },
    #[error("unsupported sharing value {}", quoted(.0))]
    Sharing(String),
    #[error("invalid value for {key}: {value}")]
    Value { key: String, value: String },
    #[error("invalid value {value} for {key}")]
    MountNumber { value: String, key: String },
    #[error("{key} not allowed for {} type mounts", quoted(.kind))]
    MountOwner { key: &'static str, kind: &'static str },
    #[error("invalid cache sharing set for {0} mount")]
    MountSharing(&'static str),
    #[error("secret mount should not have a from")]
    SecretFrom,
    #[error("invalid secret mount. one of source, target required")]
    SecretSource,
    #[error("both source and id can't be set")]
    SecretSourceAndId,
    #[error("invalid mount target \"/\"")]
    MountTarget,
    #[error("device name already set to {0}")]
    DeviceName(String),
    #[error("invalid network mode {}", quoted(.0))]
    Network(String),
    #[error("security {} is not valid", quoted(.0))]
    Security(String),
    #[error(transparent)]
    Expand(#[from] ExpandError),
}
