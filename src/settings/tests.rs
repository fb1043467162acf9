mod wrong;

use std::path::Path;

use super::reader::{Field, read_document};
use super::*;
use wrong::PORTS;

const APPLIANCE: &str = include_str!("../../config/appliance.toml");
const NAME: &str = "config/appliance.toml";

/// The documentation with every setting in it set: `#key` becomes ` key`, columns stay.
fn everything_set() -> String {
    let mut text = String::new();
    for line in APPLIANCE.lines() {
        match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => {
                text.push(' ');
                text.push_str(setting);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

fn fields(text: &str) -> Vec<Field> {
    let read = read_document(Path::new(NAME), text, |root| {
        Settings::read(root, Path::new("config"))
    });
    let (_, fields) =
        read.unwrap_or_else(|problems| panic!("{}", SettingsError::Invalid(problems)));
    fields
}

fn problems(text: &str) -> Vec<Problem> {
    match Settings::parse("test.toml", text) {
        Err(SettingsError::Invalid(problems)) => problems,
        other => panic!("no problems in {text}\n{other:?}"),
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let line = text[..offset].matches('\n').count();
    let column = text.lines().nth(line).unwrap_or("").len();
    let start: usize = text.lines().take(line).map(|line| line.len() + 1).sum();
    assert!(offset - start <= column);
    (line + 1, text[start..offset].chars().count() + 1)
}

#[test]
fn the_shipped_file_loads_from_where_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(NAME);
    let settings = Settings::load(&path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(settings.ports.len(), 2);
    assert_eq!(settings.policy.directory, path.with_file_name("policies"));
    assert_eq!(
        (settings.port("outside"), settings.port("eth0")),
        (Some(1), None)
    );
}

#[test]
fn documented_defaults_are_the_defaults() {
    let shipped = Settings::parse(NAME, APPLIANCE).unwrap();
    let minimal = "[[port]]\nname = 'inside'\ninterface = 'eth1'\n\
                   [[port]]\nname = 'outside'\ninterface = 'eth0'\n";
    assert_eq!(shipped, Settings::parse(NAME, minimal).unwrap());

    let mut documented = Settings::parse(NAME, &everything_set()).unwrap();
    // These are examples, not defaults.
    assert_eq!(std::mem::take(&mut documented.management.allow).len(), 1);
    let nat = std::mem::take(&mut documented.nat);
    assert_eq!((nat.destinations.len(), nat.sources.len()), (1, 1));
    let replay = std::mem::take(&mut documented.replay);
    let tables = (
        replay.links.len(),
        replay.routes.len(),
        replay.neighbours.len(),
    );
    assert_eq!(tables, (1, 1, 1));
    assert_eq!(documented, shipped);
    assert_eq!(documented.limits, Limits::default());
    assert_eq!(documented.timeouts, Timeouts::default());
    assert_eq!(documented.policy.compat, Compat::default());
}

#[test]
fn every_field_is_documented_with_what_is_allowed() {
    let text = everything_set();
    let fields = fields(&text);
    for field in &fields {
        // A table may occur several times; one of them explains the field.
        let same = fields.iter().filter(|other| other.path == field.path);
        let spans: Vec<_> = same.filter_map(|other| other.span.clone()).collect();
        assert!(!spans.is_empty(), "{} is missing in {NAME}", field.path);
        let lines = spans.iter().map(|span| position(&text, span.start).0);
        let comments: Vec<String> = lines.map(comment_above).collect();
        let allowed = plain(&field.allowed);
        assert!(
            comments.iter().any(|comment| comment.contains(&allowed)),
            "{NAME}: no comment on {} says: {allowed}\n{comments:#?}",
            field.path,
        );
    }
}

/// The explanation above a line, as one line of words.
fn comment_above(line: usize) -> String {
    let lines: Vec<&str> = APPLIANCE.lines().take(line - 1).collect();
    let comment = lines.iter().rev().take_while(|line| line.starts_with("# "));
    let mut words: Vec<&str> = comment.map(|line| &line[2..]).collect();
    words.reverse();
    plain(&words.join(" "))
}

fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// Every field wrong in turn: the message names its place, what stands there and what may.
#[test]
fn a_wrong_type_is_named_with_its_place_for_every_field() {
    let text = everything_set();
    let mut tried = 0;
    for field in fields(&text) {
        let Some(span) = field.span else { continue };
        if field.allowed.is_empty() {
            continue;
        }
        // No setting is a date.
        let wrong = format!("{}1979-05-27{}", &text[..span.start], &text[span.end..]);
        let found = problems(&wrong);
        let place = position(&text, span.start);
        let problem = found.iter().find(|p| (p.line, p.column) == place);
        let problem = problem.unwrap_or_else(|| panic!("{} at {place:?}: {found:?}", field.path));
        assert_eq!(without_indices(&problem.field), field.path);
        let expected = ProblemKind::Value {
            found: "the time 1979-05-27".to_owned(),
            allowed: field.allowed,
        };
        assert_eq!(problem.kind, expected);
        tried += 1;
    }
    assert!(tried > 70, "only {tried} fields");
}

fn without_indices(path: &str) -> String {
    let mut plain = path.to_owned();
    while let Some((start, end)) = plain.find('[').zip(plain.find(']')) {
        plain.replace_range(start..=end, "");
    }
    plain
}

/// An unknown key in every table: named with its place, and with the key it resembles.
#[test]
fn an_unknown_key_is_named_in_every_table() {
    let text = everything_set();
    let mut tables = 0;
    for (number, line) in text.lines().enumerate() {
        if !line.trim_start().starts_with('[') {
            continue;
        }
        let mut lines: Vec<&str> = text.lines().collect();
        lines.insert(number + 1, "  colour = 1");
        let found = problems(&lines.join("\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].line, found[0].column), (number + 2, 3));
        let field = without_indices(&found[0].field);
        let table = line.trim().trim_matches(['[', ']']);
        assert_eq!(field, format!("{table}.colour"));
        tables += 1;
    }
    assert_eq!(tables, 20);
    let found = problems("on_exitt = 'open'\n[[port]]\nname = 'a'\ninterface = 'b'\n");
    let message = "test.toml:1:1: unknown key `on_exitt`; did you mean `on_exit`?";
    assert_eq!(found[0].to_string(), message);
}

#[test]
fn numbers_are_bounded_on_both_sides() {
    let text = everything_set();
    let mut tried = 0;
    for field in fields(&text) {
        let Some(bounds) = field.allowed.strip_prefix("a whole number from ") else {
            continue;
        };
        let (least, most) = bounds.split_once(" to ").unwrap();
        let (least, most): (i64, i64) = (least.parse().unwrap(), most.parse().unwrap());
        let span = field.span.unwrap();
        let with = |number: i64| format!("{}{number}{}", &text[..span.start], &text[span.end..]);
        for number in [least, most] {
            Settings::parse("test.toml", &with(number)).unwrap_or_else(|e| panic!("{e}"));
        }
        for number in [least - 1, most + 1, i64::MAX, i64::MIN] {
            let found = problems(&with(number));
            assert_eq!(found.len(), 1, "{found:?}");
            let ProblemKind::Value { found, allowed } = &found[0].kind else {
                panic!("{found:?}");
            };
            assert_eq!((found, allowed), (&number.to_string(), &field.allowed));
        }
        tried += 1;
    }
    assert!(tried > 25, "only {tried} fields");
}

#[test]
fn all_problems_are_listed_in_the_order_of_the_text() {
    let text = "on_exit = 'ajar'\n[[port]]\nnam = 'é'\ninterface = 'a b'\n[limits]\nflows = 1\n";
    let Err(error) = Settings::parse("dir/x.toml", text) else {
        panic!("accepted");
    };
    let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
    let places: Vec<&str> = lines
        .iter()
        .map(|l| l.split(": ").next().unwrap())
        .collect();
    let expected = ["1:11", "2:1", "3:1", "4:13", "6:9"].map(|place| format!("dir/x.toml:{place}"));
    assert_eq!(places, expected, "{lines:#?}");
}

#[test]
fn columns_count_characters() {
    let found = problems(
        "'é' = 1\n\"ü\" = {x = 2}\n[[port]]\nname = 'a'\ninterface = 'b'\n\
                          [[management.allow]]\ncomment = 'ää'\nfrom = ['é', 'x']",
    );
    let places: Vec<_> = found.iter().map(|p| (p.line, p.column)).collect();
    assert_eq!(places, [(1, 1), (2, 1), (8, 9), (8, 14)]);
}

#[test]
fn what_is_not_toml_is_named_with_its_place() {
    let found = problems("a = 1\na = 2\nb = \n");
    let places: Vec<_> = found.iter().map(|p| (p.line, p.column)).collect();
    assert_eq!(places, [(2, 1), (3, 5)], "{found:?}");
    assert!(matches!(found[0].kind, ProblemKind::Syntax { .. }));
}

#[test]
fn nothing_at_all_misses_the_ports() {
    let found = problems("");
    let message = "test.toml:1:1: `port` is missing; it must be one or more [[port]] tables";
    assert_eq!(found[0].to_string(), message);
}

#[test]
fn pairs_name_ports_in_any_order() {
    let more = "[[port]]\nname = 'c'\ninterface = 'c'\n[[port]]\nname = 'd'\ninterface = 'd'\n\
                [forwarding]\nmode = 'transparent'\npairs = [['d', 'a'], ['b', 'c']]\n";
    let settings = Settings::parse("x", &format!("{PORTS}{more}")).unwrap();
    assert_eq!(settings.forwarding.pairs, [(3, 0), (1, 2)]);
    let two = format!("{PORTS}[forwarding]\nmode = 'transparent'\n");
    assert_eq!(
        Settings::parse("x", &two).unwrap().forwarding.pairs,
        [(0, 1)]
    );
}

#[test]
fn values_arrive_as_written() {
    let more = "queues = [1, 3]\nvlans = [100]\nrole = 'outside'\n[workers]\ncores = [2]\n\
                [limits]\nflows = 2048\n[admin]\nmetrics_address = '[::1]:9100'\n\
                [[management.allow]]\nfrom = ['198.18.0.1', '2001:db8::/32']\nprotocol = 'tcp'\n\
                ports = [22, '80-90']\n[policy]\ndirectory = '/etc/p'\n\
                [forwarding]\nmode = 'transparent'\n";
    let settings = Settings::parse("/a/x.toml", &format!("{PORTS}{more}")).unwrap();
    let port = &settings.ports[1];
    assert_eq!(port.queues, Queues::List(vec![1, 3]));
    assert_eq!((&port.vlans, port.role), (&vec![100], PortRole::Outside));
    assert_eq!(settings.workers.cores, Cores::List(vec![2]));
    assert_eq!(
        settings.limits.half_open_flows, 2048,
        "never more than flows"
    );
    assert_eq!(settings.admin.metrics_address, "[::1]:9100".parse().ok());
    let rule = &settings.management.allow[0];
    assert_eq!(rule.from[0], "198.18.0.1/32".parse().unwrap());
    assert_eq!(rule.protocol, ManagementProtocol::Number(6));
    assert_eq!(rule.ports, [22..=22, 80..=90]);
    assert_eq!(settings.policy.directory, Path::new("/etc/p"));
}

#[test]
fn a_missing_file_is_named() {
    let error = Settings::load(Path::new("/nonexistent/x.toml")).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("/nonexistent/x.toml: cannot read settings: "),
        "{text}"
    );
}
