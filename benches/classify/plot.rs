//! Rates as an SVG picture: bars on a logarithmic scale, a block a rule set.

/// A bar: a rule set's rate by one way of deciding.
pub struct Bar {
    pub set: String,
    pub way: &'static str,
    /// Million lookups a second.
    pub rate: f64,
}

const LEFT: f64 = 170.0;
const WIDTH: f64 = 560.0;
const BAR: f64 = 13.0;
/// The scale's ends, as powers of ten.
const DECADES: (i32, i32) = (-3, 3);

/// The picture of bars, those of a set next to each other.
pub fn svg(title: &str, bars: &[Bar]) -> String {
    let blocks = bars.chunk_by(|one, other| one.set == other.set);
    let count = blocks.clone().count() as f64;
    let height = 60.0 + bars.len() as f64 * BAR + count * 8.0 + 30.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{0}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\" font-size=\"15\">{title}</text>\n",
        LEFT + WIDTH + 70.0
    );
    grid(&mut text, height);
    let mut top = 50.0;
    for block in blocks {
        let middle = top + block.len() as f64 * BAR / 2.0 + 4.0;
        let set = &block[0].set;
        let end = LEFT - 8.0;
        text += &format!("<text x=\"{end}\" y=\"{middle}\" text-anchor=\"end\">{set}</text>\n");
        for bar in block {
            text += &bar_text(bar, top);
            top += BAR;
        }
        top += 8.0;
    }
    text.push_str("</svg>\n");
    text
}

/// Where a rate stands on the scale.
fn place(rate: f64) -> f64 {
    let (first, last) = (f64::from(DECADES.0), f64::from(DECADES.1));
    let share = (rate.log10() - first) / (last - first);
    LEFT + share.clamp(0.0, 1.0) * WIDTH
}

fn bar_text(bar: &Bar, top: f64) -> String {
    let fill = match bar.way {
        "bits" => "#2a6f97",
        "classes" => "#e09f3e",
        _ => "#9e9e9e",
    };
    let (end, height, baseline) = (place(bar.rate), BAR - 2.0, top + BAR - 4.0);
    let (width, after, way, rate) = (end - LEFT, end + 5.0, bar.way, bar.rate);
    let digits = if rate < 1.0 { 3 } else { 1 };
    format!(
        "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{fill}\"/>\n\
         <text x=\"{after:.1}\" y=\"{baseline}\">{rate:.digits$} {way}</text>\n"
    )
}

/// Lines and names of the powers of ten.
fn grid(text: &mut String, height: f64) {
    for decade in DECADES.0..=DECADES.1 {
        let rate = 10f64.powi(decade);
        let (x, bottom) = (place(rate), height - 25.0);
        let below = height - 10.0;
        *text += &format!(
            "<line x1=\"{x:.1}\" y1=\"40\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\n\
             <text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{rate}</text>\n"
        );
    }
}
