//! Whole connections, and those who would disturb them.

use proptest::prelude::*;

use super::twin::Twin;
use super::*;
use FlowDirection::{Original, Reply};
use SegmentKind::{Ack, Fin, Reset, Syn, SynAck};

/// A connection under test, with what its flow remembers.
#[derive(Clone)]
struct Connection {
    tracking: Tracking,
    state: TcpState,
    life: Life,
    rules: TcpRules,
}

const SCALED: &[u8] = &[3, 3, 7, 1, 4, 2, 1, 1];
const CLIENT: u32 = 0xffff_fff0;
const SERVER: u32 = 5_000;

fn segment(kind: SegmentKind, sequence: u32, acknowledgement: u32, bytes: u32) -> Segment<'static> {
    let control = u32::from(matches!(kind, Syn | SynAck | Fin));
    Segment {
        kind,
        sequence,
        end: sequence.wrapping_add(bytes).wrapping_add(control),
        acknowledgement,
        has_acknowledgement: !matches!(kind, Syn) && (kind != Reset || acknowledgement != 0),
        synchronises: matches!(kind, Syn | SynAck),
        window: 1000,
        options: &[],
    }
}

impl Connection {
    fn open(rules: TcpRules) -> Connection {
        let (tracking, state) = Tracking::open(&segment(Syn, CLIENT, 0, 0), &rules).unwrap();
        Connection {
            tracking,
            state,
            life: Life {
                replied: false,
                assured: false,
            },
            rules,
        }
    }

    /// After a handshake without options, windows of 1,000.
    fn established() -> Connection {
        let mut connection = Connection::open(TcpRules::default());
        connection.send(Reply, segment(SynAck, SERVER, CLIENT.wrapping_add(1), 0));
        connection.send(
            Original,
            segment(Ack, CLIENT.wrapping_add(1), SERVER + 1, 0),
        );
        assert_eq!(connection.state, TcpState::Established);
        assert!(connection.life.assured);
        connection
    }

    fn send(&mut self, direction: FlowDirection, segment: Segment<'_>) -> Outcome {
        let outcome =
            self.tracking
                .segment(self.state, direction, &segment, self.life, &self.rules);
        if let Outcome::Accept { state, assures, .. } = outcome {
            self.state = state;
            self.life.assured |= assures;
        }
        self.life.replied |= direction == Reply && !matches!(outcome, Outcome::Invalid { .. });
        outcome
    }
}

fn passes(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Invalid { .. })
}

#[test]
fn data_beyond_the_window_is_invalid_and_late_data_is_ignored() {
    let connection = Connection::established();
    let server = |sequence: u32, bytes| segment(Ack, sequence, CLIENT.wrapping_add(1), bytes);
    let judge = |s| connection.clone().send(Reply, s);
    assert!(matches!(
        judge(server(SERVER + 1, 100)),
        Outcome::Accept { .. }
    ));
    let edge = judge(server(SERVER + 1001, 0));
    assert!(matches!(edge, Outcome::Accept { .. }), "{edge:?}");
    let a_little = judge(server(SERVER + 1002, 1));
    assert_eq!(a_little, Outcome::Ignore);
    let far = judge(server(SERVER + 2100, 1));
    assert_eq!(far, Outcome::Invalid { closing: false });
    assert_eq!(judge(server(SERVER - 1100, 10)), Outcome::Ignore);
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_invalid_and_old_ones_are_ignored() {
    let connection = Connection::established();
    let judge = |acknowledgement| {
        let ack = segment(Ack, CLIENT.wrapping_add(1), acknowledgement, 0);
        connection.clone().send(Original, ack)
    };
    assert!(passes(judge(SERVER + 1)));
    assert_eq!(judge(SERVER + 2), Outcome::Invalid { closing: false });
    assert_eq!(judge(SERVER.wrapping_sub(66_001)), Outcome::Ignore);
    assert!(!matches!(
        judge(SERVER.wrapping_sub(65_990)),
        Outcome::Ignore
    ));
}

#[test]
fn liberal_lets_pass_what_is_outside_but_no_reset() {
    let mut connection = Connection::established();
    connection.rules.liberal = true;
    let far = segment(Ack, SERVER + 1_000_000, CLIENT.wrapping_add(1), 5);
    assert!(passes(connection.clone().send(Reply, far)));
    let old = segment(Reset, SERVER - 10, 0, 0);
    assert!(!passes(connection.send(Reply, old)));
}

#[test]
fn scaling_counts_only_when_both_ends_offer_it() {
    for (offer, beyond) in [(SCALED, true), (&[][..], false)] {
        let rules = TcpRules::default();
        let syn = Segment {
            options: SCALED,
            ..segment(Syn, CLIENT, 0, 0)
        };
        let (tracking, state) = Tracking::open(&syn, &rules).unwrap();
        let life = Life {
            replied: false,
            assured: false,
        };
        let mut connection = Connection {
            tracking,
            state,
            life,
            rules,
        };
        let answer = segment(SynAck, SERVER, CLIENT.wrapping_add(1), 0);
        connection.send(
            Reply,
            Segment {
                options: offer,
                ..answer
            },
        );
        connection.send(
            Original,
            segment(Ack, CLIENT.wrapping_add(1), SERVER + 1, 0),
        );
        let far = segment(Ack, SERVER + 1 + (900 << 7), CLIENT.wrapping_add(1), 5);
        assert_eq!(passes(connection.send(Reply, far)), beyond);
    }
}

#[test]
fn only_the_exact_reset_ends_a_connection() {
    // RFC 5961 §3.2.
    let connection = Connection::established();
    let judge = |sequence: u32| {
        let mut connection = connection.clone();
        let outcome = connection.send(Reply, segment(Reset, sequence, 0, 0));
        (passes(outcome), connection.state)
    };
    assert_eq!(judge(SERVER + 1), (true, TcpState::Closed));
    assert_eq!(
        judge(SERVER + 2),
        (true, TcpState::Established),
        "may provoke a challenge"
    );
    assert_eq!(judge(SERVER), (false, TcpState::Established));
    assert_eq!(judge(SERVER + 1002), (true, TcpState::Established));
    assert_eq!(judge(SERVER + 2100), (false, TcpState::Established));
}

#[test]
fn a_blind_syn_passes_and_ends_nothing() {
    // RFC 5961 §4: its receiver answers with a challenge.
    let mut connection = Connection::established();
    let before = connection.state;
    let outcome = connection.send(Original, segment(Syn, 77, 0, 0));
    assert_eq!((outcome, connection.state), (Outcome::Ignore, before));
    let challenge = segment(Ack, SERVER + 1, CLIENT.wrapping_add(1), 0);
    assert!(passes(connection.send(Reply, challenge)));
    assert_eq!(connection.state, TcpState::Established);
}

#[test]
fn a_syn_the_server_accepts_after_all_starts_the_connection_over() {
    let mut connection = Connection::established();
    connection.send(Original, segment(Syn, 77, 0, 0));
    let answer = connection.send(Reply, segment(SynAck, 900_000, 78, 0));
    assert!(passes(answer));
    assert_eq!(connection.state, TcpState::SynReceived);
    assert!(passes(
        connection.send(Original, segment(Ack, 78, 900_001, 0))
    ));
    assert_eq!(connection.state, TcpState::Established);
}

#[test]
fn two_syns_open_a_connection_from_both_ends() {
    // RFC 9293 §3.5, figure 7.
    let mut connection = Connection::open(TcpRules::default());
    connection.send(Reply, segment(Syn, SERVER, 0, 0));
    assert_eq!(connection.state, TcpState::SynSentBoth);
    connection.send(Original, segment(SynAck, CLIENT, SERVER + 1, 0));
    connection.send(Reply, segment(SynAck, SERVER, CLIENT.wrapping_add(1), 0));
    let ack = segment(Ack, SERVER + 1, CLIENT.wrapping_add(1), 0);
    assert!(passes(connection.send(Reply, ack)));
    assert_eq!(connection.state, TcpState::Established);
}

#[test]
fn a_refused_connection_is_forgotten_at_once() {
    let mut connection = Connection::open(TcpRules::default());
    let refusal = segment(Reset, 0, CLIENT.wrapping_add(1), 0);
    assert_eq!(connection.send(Reply, refusal), Outcome::End);
}

#[test]
fn a_syn_sent_again_does_not_renew_the_flow() {
    let mut connection = Connection::open(TcpRules::default());
    assert_eq!(
        connection.send(Original, segment(Syn, CLIENT, 0, 0)),
        Outcome::Ignore
    );
}

#[test]
fn a_closed_connection_is_reopened_by_a_syn() {
    let mut connection = Connection::established();
    let (c, s) = (CLIENT.wrapping_add(1), SERVER + 1);
    connection.send(Original, segment(Fin, c, s, 0));
    connection.send(Reply, segment(Fin, s, c.wrapping_add(1), 0));
    connection.send(Original, segment(Ack, c.wrapping_add(1), s + 1, 0));
    assert_eq!(connection.state, TcpState::TimeWait);
    assert_eq!(
        connection.send(Original, segment(Syn, 1, 0, 0)),
        Outcome::Reopen
    );
}

#[test]
fn the_challenge_a_syn_provokes_is_not_the_last_acknowledgement() {
    let mut connection = Connection::established();
    let (c, s) = (CLIENT.wrapping_add(1), SERVER + 1);
    connection.send(Original, segment(Fin, c, s, 0));
    connection.send(Reply, segment(Fin, s, c.wrapping_add(1), 0));
    assert_eq!(connection.state, TcpState::LastAck);
    connection.send(Original, segment(Syn, 1, 0, 0));
    connection.send(Reply, segment(Ack, s + 1, c.wrapping_add(1), 0));
    assert_eq!(connection.state, TcpState::LastAck);
}

#[test]
fn nothing_but_a_syn_or_by_setting_an_acknowledgement_opens() {
    for kind in [SynAck, Fin, Reset, SegmentKind::None] {
        assert!(Tracking::open(&segment(kind, 1, 1, 0), &TcpRules::default()).is_none());
    }
    let ack = segment(Ack, 1, 1, 0);
    assert!(Tracking::open(&ack, &TcpRules::default()).is_some());
    let strict = TcpRules {
        loose: false,
        ..TcpRules::default()
    };
    assert!(Tracking::open(&ack, &strict).is_none());
}

/// A segment anywhere, or close to where it matters.
fn any_segment(sender: u32, receiver: u32) -> impl Strategy<Value = Segment<'static>> {
    let near = |base: u32| {
        prop_oneof![
            3 => (-1200_i32..1200).prop_map(move |by| base.wrapping_add_signed(by)),
            1 => (-70_000_i32..70_000).prop_map(move |by| base.wrapping_add_signed(by)),
            1 => any::<u32>(),
        ]
    };
    let kind = prop_oneof![
        1 => Just(Syn), 1 => Just(SynAck), 1 => Just(Fin), 3 => Just(Ack), 2 => Just(Reset),
    ];
    (
        kind,
        near(sender),
        near(receiver),
        0..1500_u32,
        any::<u16>(),
    )
        .prop_map(|(kind, sequence, acknowledgement, bytes, window)| Segment {
            window,
            ..segment(kind, sequence, acknowledgement, bytes)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// The window against its slow twin, which counts on without ever wrapping round.
    #[test]
    fn the_window_is_that_of_the_twin(
        segments in proptest::collection::vec(
            (any::<bool>(), any_segment(CLIENT, SERVER), any_segment(SERVER, CLIENT)), 1..40,
        ),
    ) {
        let mut connection = Connection::established();
        let mut twin = Twin::established(CLIENT, SERVER, 1000);
        for (reply, original, answer) in segments {
            let (direction, segment) = if reply { (Reply, answer) } else { (Original, original) };
            if segment.kind != Ack {
                continue;
            }
            let outcome = connection.send(direction, segment);
            let expected = twin.acknowledgement(reply, &segment);
            let got = match outcome {
                Outcome::Invalid { .. } => super::twin::Fits::No,
                Outcome::Ignore => super::twin::Fits::Late,
                _ => super::twin::Fits::Yes,
            };
            prop_assert_eq!(got, expected, "{:?} {:?}", direction, segment);
        }
    }

    /// Who cannot see the connection guesses at 2³² sequence numbers. A guess out of the window
    /// leaves it as it was, whatever it is.
    #[test]
    fn who_guesses_outside_the_window_changes_nothing(
        guesses in proptest::collection::vec(
            (any::<bool>(), any::<u32>(), any::<u32>(), 0..3_usize),
            500,
        ),
    ) {
        let mut connection = Connection::established();
        for (reply, sequence, acknowledgement, kind) in guesses {
            let kind = [Reset, Fin, Ack][kind];
            let direction = if reply { Reply } else { Original };
            let base = if reply { SERVER } else { CLIENT };
            if sequence.wrapping_sub(base.wrapping_sub(70_000)) < 140_000 {
                continue;
            }
            let guess = segment(kind, sequence, acknowledgement, 100);
            connection.send(direction, guess);
            prop_assert_eq!(connection.state, TcpState::Established);
        }
        let data = segment(Ack, SERVER + 1, CLIENT.wrapping_add(1), 100);
        prop_assert!(passes(connection.send(Reply, data)));
    }
}
