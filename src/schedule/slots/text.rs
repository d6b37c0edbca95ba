//! What a text must be for the library to read it as POSIX cron does.

/// The longest expression, in characters.
const LONGEST: usize = 128;
/// Names of whole expressions, and what they stand for.
const NAMED: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// A field of an expression: its name, the names of its values, and what it may hold.
pub(super) type Field = (&'static str, &'static [&'static str], &'static str);

/// The fields, in their order.
pub(super) const FIELDS: [Field; 5] = [
    ("minute", &[], "0-59, such as '30', '0,30', '10-20', '*/15' or '5-59/10'"),
    ("hour", &[], "0-23, such as '3', '0,12', '22-23,0-4', '*/6' or '1-23/2'"),
    ("day of month", &[], "1-31, such as '1', '1,15', '1-7' or '*/2'"),
    (
        "month",
        &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
        "1-12 or JAN-DEC, such as '1', 'JAN,JUL', '10-12,1-3' or '*/3'",
    ),
    (
        "weekday",
        &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        "0-7 or SUN-SAT, such as '0', 'MON-FRI' or 'SAT,SUN'",
    ),
];

/// Why a text is no expression. Each message names the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// There is nothing but blanks.
    #[error("the schedule is empty; give five fields such as '0 3 * * *', or a name such as '@daily'")]
    Empty,
    /// The text has this many characters.
    #[error("the schedule has {0} characters; shorten it to {LONGEST}, for example with ranges and steps")]
    Long(usize),
    /// A character that no expression has.
    #[error("the schedule contains {0:?}; write it in one line of ASCII characters")]
    Character(char),
    /// A setting such as `TZ=` stands before the fields.
    #[error("the schedule sets '{0}'; remove that, and name the time zone in spec.timeZone")]
    Setting(String),
    /// `@reboot`.
    #[error("'@reboot' names no time; use five fields such as '0 3 * * *', or a name such as '@daily'")]
    Reboot,
    /// `@every`.
    #[error("'@every' counts from no fixed time; use a step such as '*/30 * * * *' or '0 */6 * * *'")]
    Every,
    /// Another name.
    #[error(
        "'{0}' is no schedule; use @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually, or five fields"
    )]
    Name(String),
    /// There are fewer than five fields.
    #[error("the schedule has {0} of five fields; give minute, hour, day of month, month and weekday")]
    Few(usize),
    /// There are more than five fields.
    #[error(
        "the schedule has {0} fields; remove seconds and years, and keep minute, hour, day of month, month and weekday"
    )]
    Many(usize),
    /// `?`, which other dialects have.
    #[error("the {0} field has '?'; write '*' instead")]
    QuestionMark(&'static str),
    /// `L`, `W` or `#`, which other dialects have.
    #[error("the {0} field '{1}' has L, W or #, which POSIX cron lacks; use only {2}")]
    Extension(&'static str, String, &'static str),
    /// A field that cannot be read.
    #[error("the {0} field '{1}' is not valid; use {2}; ranges go upwards, and a step follows '*' or a range")]
    Field(&'static str, String, &'static str),
    /// Such a date does not exist.
    #[error("no month in '{months}' has a day in '{days}', so the schedule never comes; choose a date that exists")]
    Never {
        /// The month field.
        months: String,
        /// The day field.
        days: String,
    },
}

/// The five fields of a text, with names of whole expressions replaced.
pub(super) fn fields_of(text: &str) -> Result<[&str; 5], ExpressionError> {
    let length = text.chars().count();
    if length > LONGEST {
        return Err(ExpressionError::Long(length));
    }
    if let Some(found) = text.chars().find(|&c| !c.is_ascii_graphic() && c != ' ' && c != '\t') {
        return Err(ExpressionError::Character(found));
    }
    let named = NAMED.iter().find(|(name, _)| *name == text);
    let fields: Vec<_> = named.map_or(text, |(_, fields)| fields).split_ascii_whitespace().collect();
    match *fields.as_slice() {
        [] => Err(ExpressionError::Empty),
        ["@reboot", ..] => Err(ExpressionError::Reboot),
        ["@every", ..] => Err(ExpressionError::Every),
        [first, ..] if first.starts_with('@') => Err(ExpressionError::Name(text.to_owned())),
        [first, ..] if first.contains('=') => Err(ExpressionError::Setting(first.to_owned())),
        [minutes, hours, days, months, weekdays] => Ok([minutes, hours, days, months, weekdays]),
        ref fields if fields.len() < FIELDS.len() => Err(ExpressionError::Few(fields.len())),
        ref fields => Err(ExpressionError::Many(fields.len())),
    }
}

/// Refuses what the library reads otherwise than POSIX cron does: extensions, names in the wrong field or with digits
/// next to them, and empty parts of a list.
pub(super) fn check_field(field: &Field, text: &str) -> Result<(), ExpressionError> {
    let &(name, names, values) = field;
    let is_number = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_value = |text: &str| is_number(text) || names.iter().any(|name| name.eq_ignore_ascii_case(text));
    let is_extension = |part: &str| {
        let rest = part.trim_end_matches(['L', 'W', 'l', 'w']);
        part.contains('#') || part.starts_with("L-") || rest != part && (rest.is_empty() || is_value(rest))
    };
    for part in text.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        if is_number(step) && (range == "*" || is_value(from) && is_value(to)) {
            continue;
        }
        return Err(if part.contains('?') {
            ExpressionError::QuestionMark(name)
        } else if is_extension(part) {
            ExpressionError::Extension(name, text.to_owned(), values)
        } else {
            not_valid(field, text)
        });
    }
    Ok(())
}

/// The refusal of a field that cannot be read.
pub(super) fn not_valid(&(name, _, values): &Field, text: &str) -> ExpressionError {
    ExpressionError::Field(name, text.to_owned(), values)
}
