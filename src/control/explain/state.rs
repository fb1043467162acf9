//! What connections have to do with it: packets of flows that are open, and answers.

use crate::control::judge::{Judgement, Question};

/// What connection tracking has to do with a packet; `None` of the first of a flow.
pub(super) fn state(judgement: &Judgement) -> Option<String> {
    let decided = judgement.decision.as_ref();
    let may_open = decided.is_some_and(|decision| decision.allow);
    let text = match judgement.question {
        Question::Arp | Question::Opens => return None,
        Question::Answers if may_open => {
            "an answer: it needs no rule of its own, for the flow it answers, told below, may be \
             opened"
        }
        Question::Answers => {
            "an answer: no rule of its own would help it, for the flow it answers, told below, may \
             not be opened"
        }
        Question::AnswersAny if may_open => {
            "it needs no rule of its own, for a flow it could be about, told below, may be opened"
        }
        Question::AnswersAny => "no flow it could be about may be opened",
        Question::GoesOn => "the flow is asked again under the policies in force",
        Question::Kept => "the flow was allowed when it was opened, and is kept",
    };
    Some(text.to_owned())
}

/// What the answers to a packet need, where it opens a flow: nothing of policy, once it may.
pub(super) fn answers(judgement: &Judgement) -> Option<String> {
    let (Question::Opens, Some(key)) = (judgement.question, judgement.key()) else {
        return None;
    };
    let answer = key.reversed();
    let answer = answer.map_or_else(|| "what comes back".to_owned(), |key| key.to_string());
    Some(match judgement.allow {
        true => {
            format!("{answer}: passes with the flow, as ICMP errors do; no rule is needed for it")
        }
        false => {
            format!(
                "{answer}: passes once the flow may be opened; a rule for it alone opens nothing"
            )
        }
    })
}
