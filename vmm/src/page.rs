//! The frame of a page that needs nothing else: no script, no style sheet or picture from elsewhere.
//! What is on it, others say.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The page of this title that may do what `policy`, a Content Security Policy, allows. The style
/// sheet is put in as it is.
#[must_use]
pub fn page(title: &str, policy: &str, style: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(policy);
                title { (title) }
                style { (PreEscaped(style)) }
            }
            body { (body) }
        }
    };
    page.into_string()
}
